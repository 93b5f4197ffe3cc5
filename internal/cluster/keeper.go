package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Options say who an instance is, and what it shares. All are required except those that say otherwise.
type Options struct {
	Name    string        // of the instance; no other may have it
	Version string        // of the program
	TTL     time.Duration // of the leases; up to Longest
	Group   Group
	Sources []string // the names of its sources
	// Able says whether the instance can work at all: that Redis answers it. An instance that cannot for some
	// time gives its sources to those that can, if there are any. nil: it always can.
	Able func(context.Context) error
	Log  *slog.Logger
}

// ErrNameTaken says that another instance of this name is alive.
var ErrNameTaken = errors.New("another instance has this name")

// Why work on a source is to end: the cause of the context of a Hold.
var (
	ErrSurplus = errors.New("another instance is to have it")
	ErrLeaving = errors.New("this instance leaves")
	ErrUnable  = errors.New("Redis answers other instances, and not this one")
	ErrLost    = errors.New("another instance has it")
	ErrLapsed  = errors.New("the lease has run out: it was not renewed in time")
)

// Keeper keeps the leases of an instance. It is safe for concurrent use.
type Keeper struct {
	options Options
	table   table
	me      Member
	group   string // by which the notifications of our group are known
	former  namesake
	told    map[string]bool // instances about which it was logged that they use the same key in another way

	mu       sync.Mutex
	own      map[string]*claim // the sources that are ours
	claimAll bool              // the next turn asks for all that is held under our name: we may have forgotten some
	take     []string          // what the next turn is to take
	now      situation
	deadline time.Time // until when our leases are valid
	lapse    *time.Timer
	unable   time.Time // since when it cannot work; zero: it can
	joined   bool
	leaving  bool
	parted   bool          // the others know that we leave
	err      error         // of the latest turn
	changed  chan struct{} // closed, and replaced by a new one, when something has changed
	rouse    func()        // ends the current wait; nil: there is none
	roused   bool          // the next wait is to end at once
	figures  Figures
}

// claim is a source that is ours.
type claim struct {
	giveUp bool                    // as soon as nothing works on it
	stop   context.CancelCauseFunc // ends the work on it; nil: nothing works on it
}

// situation is what the latest turn has shown.
type situation struct {
	asked   time.Time         // by our clock
	heard   time.Time         // when a lease was given up since, as far as we were told
	holder  map[string]string // of each source that an instance has
	expired map[string]bool   // of the others, those whose holder did not give them up
	free    map[string]time.Time
	members int
	target  int
}

// namesake is another process of our name, which was there when we started.
type namesake struct {
	seen time.Time
	gone bool // it counts as gone
}

// New returns a keeper that connects as pools with this configuration do. It has no leases before Run.
func New(config *pgxpool.Config, o Options) *Keeper { return newKeeper(&server{config: config}, o) }

func newKeeper(table table, o Options) *Keeper {
	o.Sources = slices.Sorted(slices.Values(o.Sources))
	return &Keeper{
		options: o, table: table, told: make(map[string]bool),
		me:    Member{Instance: o.Name, Token: rand.Text(), Version: o.Version, Group: o.Group},
		group: fmt.Sprintf("%016x", hash(fmt.Sprintf("%s/%d/%s", o.Group.Kind, o.Group.Partitions, o.Group.Key))),
		own:   make(map[string]*claim), claimAll: true, changed: make(chan struct{}), figures: newFigures(),
	}
}

// longestRest is how long a keeper waits between two turns at most, however long its leases are.
const longestRest = 5 * time.Second

// every is how often a keeper has a turn.
func (k *Keeper) every() time.Duration { return min(k.options.TTL/3, longestRest) }

// Run keeps the leases until ctx ends. Then it gives them up, each as soon as nothing works on it, and
// returns. While PostgreSQL does not answer it keeps trying. Its only error is ErrNameTaken: whether another
// process of the name is alive shows within the time of a lease. A keeper runs once.
func (k *Keeper) Run(ctx context.Context) error {
	defer k.table.close()
	defer context.AfterFunc(ctx, k.leave)()
	always := context.WithoutCancel(ctx)
	if k.options.Able != nil {
		go k.watchAbility(ctx)
	}
	due := time.Now()
	for hurried := 0; !k.finished(); {
		sent := time.Now()
		more, err := k.turn(always)
		if errors.Is(err, ErrNameTaken) {
			k.lose(err)
			return err
		}
		if hurried++; more && hurried < 4 { // others may be faster, but not without end
			continue
		}
		hurried = 0
		switch {
		case !k.isMember():
			due = sent.Add(k.every() / 4)
		case !due.After(sent): // a notification in between does not postpone it: else all would have their turns at once
			due = sent.Add(k.every())
		}
		k.wait(always, due, err == nil)
	}
	k.quit(always)
	return nil
}

// turn asks once, and does what the answer requires. more says that there is something to do at once.
func (k *Keeper) turn(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.options.TTL)
	defer cancel()
	t := k.next()
	sent := time.Now()
	v, err := k.table.turn(ctx, t)
	switch {
	case err != nil:
		k.failed(fmt.Errorf("renewing leases: %w", err))
	case v.Me == nil: // its row came while we looked
	case v.Me.Token == k.me.Token:
		return k.settle(t, sent, v), nil
	default:
		return false, k.meet(v)
	}
	return false, err
}

// next is what is to be asked.
func (k *Keeper) next() turn {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := turn{Me: k.me, TTL: k.options.TTL, Take: k.take}
	t.Me.Draining = k.leaving || k.unableFor(k.options.TTL)
	if k.former.gone {
		t.Former = k.former.seen
	}
	for _, source := range k.options.Sources {
		switch c := k.own[source]; {
		case c != nil && c.giveUp && c.stop == nil:
			t.GiveUp = append(t.GiveUp, source)
		case c != nil || k.claimAll:
			t.Renew = append(t.Renew, source)
		}
	}
	switch {
	case !k.joined, k.leaving && !k.parted:
		t.Say = k.says(wordMember)
	case len(t.GiveUp) > 0:
		t.Say = k.says(wordFree)
	}
	return t
}

// meet is for a turn that has found another process of our name. If that process was there before and is not
// seen again within most of its time, it is gone: we take its place before others take its leases.
func (k *Keeper) meet(v view) error {
	seen := v.Me.Seen
	first := k.former.seen.IsZero()
	if k.isMember() || !first && !seen.Equal(k.former.seen) {
		return fmt.Errorf("%w: %s, seen at %s; give each instance a lease.name of its own", ErrNameTaken, k.options.Name,
			seen.UTC().Format(time.RFC3339))
	}
	if first {
		k.former.seen = seen
		k.options.Log.Info("another instance has this name; waiting to see whether it is still alive",
			"instance", k.options.Name, "for_at_most", v.Me.Expires.Sub(v.Now).Round(time.Millisecond))
		return nil
	}
	k.former.gone = v.Now.Sub(seen) > v.Me.Expires.Sub(seen)*8/10
	return nil
}

// settle handles the answer to a turn.
func (k *Keeper) settle(t turn, sent time.Time, v view) (more bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.signal()
	k.err, k.take, k.claimAll = nil, nil, false
	if !k.joined {
		k.options.Log.Info("joined", "instance", k.options.Name, "others", len(v.Members))
	}
	k.joined, k.parted = true, k.parted || k.leaving && t.Me.Draining
	k.deadline = sent.Add(k.options.TTL)
	if k.lapse == nil {
		k.lapse = time.AfterFunc(time.Until(k.deadline), k.runOut)
	} else {
		k.lapse.Reset(time.Until(k.deadline))
	}
	before := k.now
	k.look(sent, v)
	k.account(t, before)
	if k.leaving {
		return false
	}
	k.plan(v)
	if k.now.members != before.members || k.now.target != before.target {
		k.options.Log.Info("sharing sources", "members", k.now.members, "target", k.now.target, "held", len(k.own))
	}
	idle := func(c *claim) bool { return c.giveUp && c.stop == nil }
	for _, c := range k.own {
		more = more || idle(c)
	}
	return more || len(k.take) > 0
}

// look keeps what a view shows.
func (k *Keeper) look(sent time.Time, v view) {
	before := k.now
	k.now = situation{
		asked: sent, holder: make(map[string]string, len(v.Leases)), expired: make(map[string]bool),
		free:    make(map[string]time.Time),
		members: before.members, target: before.target,
	}
	since := make(map[string]time.Time) // when a lease that has run out was last renewed
	for _, l := range v.Leases {
		if l.Held(v.Now) {
			k.now.holder[l.Source] = l.Holder
			continue
		}
		k.now.expired[l.Source] = true
		since[l.Source] = sent.Add(-v.Now.Sub(l.Expires) - k.options.TTL)
	}
	for _, source := range k.options.Sources {
		if _, held := k.now.holder[source]; held {
			continue
		}
		at, known := before.free[source]
		switch {
		case known:
		case k.now.expired[source]:
			at = since[source]
		case before.holder[source] == "": // we do not know how long
		case before.heard.IsZero():
			at = before.asked
		default:
			at = before.heard
		}
		k.now.free[source] = at
	}
}

// account compares what is ours with what was ours before, and counts.
func (k *Keeper) account(t turn, before situation) {
	for source, c := range k.own {
		if k.now.holder[source] == k.options.Name {
			continue
		}
		delete(k.own, source)
		if c.giveUp && c.stop == nil && slices.Contains(t.GiveUp, source) {
			k.figures.moved(k.whyGiven())
			continue
		}
		k.figures.moved(MoveLost)
		if c.stop != nil {
			c.stop(ErrLost)
		}
	}
	for _, source := range k.options.Sources {
		if k.now.holder[source] != k.options.Name || k.own[source] != nil {
			continue
		}
		k.own[source] = &claim{giveUp: k.leaving}
		switch {
		case !slices.Contains(t.Take, source):
			k.figures.moved(MoveReturned)
			continue
		case before.expired[source]:
			k.figures.moved(MoveExpired)
		default:
			k.figures.moved(MoveFree)
		}
		if at := before.free[source]; !at.IsZero() {
			k.figures.unowned(time.Since(at))
		}
	}
}

func (k *Keeper) whyGiven() string {
	switch {
	case k.leaving:
		return MoveLeaving
	case k.unableFor(0):
		return MoveUnable
	}
	return MoveSurplus
}

// plan decides what to take, and what to give up.
func (k *Keeper) plan(v view) {
	s := k.shares(v)
	k.now.members, k.now.target = len(s.Members), s.Targets()[k.options.Name]
	for source, member := range s.Free() {
		if member == k.options.Name {
			k.take = append(k.take, source)
		}
	}
	surplus, why := s.Surplus(k.options.Name), ErrSurplus
	if v.Me.Draining { // we are unable to work, and the others had the time to say that they are, too
		why = ErrUnable
		if !k.unableFor(2 * k.options.TTL) {
			return
		}
	}
	giving := 0
	for _, c := range k.own {
		if c.giveUp {
			giving++
		}
	}
	for _, source := range surplus {
		if c := k.own[source]; giving < len(surplus) && !c.giveUp {
			if giving == 0 {
				k.options.Log.Info("giving up sources", "because", why, "sources", len(surplus))
			}
			c.leave(why)
			giving++
		}
	}
}

// watchAbility checks until ctx ends whether we can work.
func (k *Keeper) watchAbility(ctx context.Context) {
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, k.options.TTL)
		err := k.options.Able(bounded)
		cancel()
		k.mu.Lock()
		switch {
		case err == nil:
			k.unable = time.Time{}
		case k.unable.IsZero():
			k.unable = time.Now()
		}
		k.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(k.every()):
		}
	}
}

func (k *Keeper) unableFor(d time.Duration) bool {
	return !k.unable.IsZero() && time.Since(k.unable) > d
}

// leave ends the work on a source, which is given up then.
func (c *claim) leave(why error) {
	c.giveUp = true
	if c.stop != nil {
		c.stop(why)
	}
}

// shares is what a view says of our sources.
func (k *Keeper) shares(v view) Shares {
	s, others := sharesOf(append(v.Members, *v.Me), k.now.holder, v.Now, k.options.Group, k.options.Sources)
	for _, m := range others {
		k.tell(m)
	}
	return s
}

// tell logs once about an instance that it drains the same key in another way.
func (k *Keeper) tell(m Member) {
	if m.Group.Key == k.options.Group.Key && !k.told[m.Instance] {
		k.told[m.Instance] = true
		k.options.Log.Warn("another instance drains the same key by other settings: give all instances the same "+
			"source.kind and source.partitions",
			"instance", m.Instance, "drains", m.Group.String(), "this_one", k.options.Group.String())
	}
}

// failed handles a turn without an answer. What is ours stays ours until its time is over.
func (k *Keeper) failed(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.options.Log.Warn("could not renew the leases; trying again", "error", err)
	}
	k.err = err
	k.signal()
}

// runOut ends the work on all sources when the time of our leases is over and PostgreSQL has not answered.
func (k *Keeper) runOut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Now().Before(k.deadline) {
		return // it was renewed at this very moment
	}
	if k.err == nil {
		k.err = ErrLapsed
	}
	for range k.own {
		k.figures.moved(MoveLapsed)
	}
	k.drop(ErrLapsed)
}

// lose ends the work on all sources.
func (k *Keeper) lose(why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = why
	k.drop(why)
}

func (k *Keeper) drop(why error) {
	for source, c := range k.own {
		delete(k.own, source)
		if c.stop != nil {
			c.stop(why)
		}
	}
	k.claimAll = true
	k.signal()
}

// signal tells all that wait for a source that something may have changed.
func (k *Keeper) signal() {
	close(k.changed)
	k.changed = make(chan struct{})
}

// leave begins to give up everything.
func (k *Keeper) leave() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leaving, k.take = true, nil
	for _, c := range k.own {
		c.leave(ErrLeaving)
	}
	k.signal()
	k.wake()
}

// finished says that we leave, and that no work goes on any more.
func (k *Keeper) finished() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.own {
		if c.stop != nil {
			return false
		}
	}
	return k.leaving
}

func (k *Keeper) isMember() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.joined
}

// quit gives everything up at the end. It is a courtesy: without it the others wait until the time is over.
func (k *Keeper) quit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(k.options.TTL, 2*time.Second))
	defer cancel()
	k.mu.Lock()
	joined, own := k.joined, len(k.own)
	for range own {
		k.figures.moved(MoveLeaving)
	}
	if k.lapse != nil {
		k.lapse.Stop()
	}
	clear(k.own)
	k.mu.Unlock()
	if !joined {
		return
	}
	if err := k.table.leave(ctx, k.me, k.options.Sources, k.says(wordMember)); err != nil {
		k.options.Log.Warn("could not give up the leases; they will expire", "error", err)
		return
	}
	k.options.Log.Info("left", "instance", k.options.Name, "gave_up", own)
}

// The notifications by which instances tell each other that there is something to do.
const (
	wordMember = "member" // one has come, or leaves
	wordFree   = "free"   // a source has no owner
)

func (k *Keeper) says(word string) string { return word + " " + k.group }

// concerns says whether we have to do something about a notification.
func (k *Keeper) concerns(said string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	word, group, _ := strings.Cut(said, " ")
	if group != k.group || word != wordMember && word != wordFree {
		return false
	}
	if k.now.heard.IsZero() {
		k.now.heard = time.Now()
	}
	return word == wordMember || k.now.target > len(k.own)
}

// wait waits until that time, or until there is something to do.
func (k *Keeper) wait(ctx context.Context, until time.Time, listen bool) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	k.mu.Lock()
	if k.roused {
		cancel()
	}
	k.rouse = cancel
	members := k.now.members
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.rouse, k.roused = nil, false
	}()
	for listen && ctx.Err() == nil {
		said, err := k.table.word(ctx)
		switch {
		case errors.Is(err, errSilent):
			listen = false
		case err != nil: // the connection broke, or there is something to do
			return
		case k.concerns(said):
			if strings.HasPrefix(said, wordMember) { // not all at the same time: of a thousand, each within a second
				until = time.Now().Add(mathrand.N(time.Duration(members)*time.Millisecond + 1))
				ctx, cancel := context.WithDeadline(ctx, until)
				defer cancel()
				<-ctx.Done()
			}
			return
		}
	}
	<-ctx.Done()
}

// wake ends the current wait, or keeps the next one from beginning.
func (k *Keeper) wake() {
	if k.rouse != nil {
		k.rouse()
		return
	}
	k.roused = true
}
