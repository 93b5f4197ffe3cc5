package events

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Group is the consumer group that we keep as a bookmark in a stream, so that XINFO
// GROUPS and every exporter show how far we are. Nothing is ever read through it.
const Group = "aggregator"

// fenceGroup is the consumer group by which a reset fences off the attempts that have begun before it.
const fenceGroup = "aggregator:reset"

// Kinds of source, and the ends of a list that a producer may push to.
const (
	KindStream = "stream"
	KindList   = "list"
	PushLeft   = "left"
	PushRight  = "right"
)

// Options say where events are. All fields are required.
type Options struct {
	Kind       string             // KindStream or KindList
	Key        string             // of the stream or list; with several partitions, the stem of their keys
	PushSide   string             // of a list: PushLeft or PushRight
	Partitions int                // at least 1
	Weights    map[string]float64 // of the actions
}

// Source is one stream of events, with the list that feeds it if there is one. It is
// safe for concurrent use.
type Source struct {
	client  redis.UniversalClient
	stream  string
	inlet   *inlet // nil if producers push to the stream itself
	decoder Decoder
}

// Sources returns the sources that the options name, one for each partition. The client must not retry by
// itself. It fails if a list's key has no companion in its hash slot.
func Sources(client redis.UniversalClient, o Options) ([]*Source, error) {
	sources := make([]*Source, o.Partitions)
	for i := range sources {
		key := partitionKey(o.Key, i, o.Partitions)
		s := &Source{client: client, stream: key, decoder: NewDecoder(o.Weights)}
		if o.Kind == KindList {
			stream, err := companion(key)
			if err != nil {
				return nil, err
			}
			s.stream = stream
			s.inlet = &inlet{client: client, list: key, stream: stream, side: o.PushSide}
		}
		sources[i] = s
	}
	return sources, nil
}

// Names are those of the sources, in their order.
func Names(sources []*Source) []string {
	names := make([]string, len(sources))
	for i, source := range sources {
		names[i] = source.Name()
	}
	return names
}

// partitionKey is the key of one partition; its braces are a Redis Cluster hash tag.
func partitionKey(key string, i, of int) string {
	if of == 1 {
		return key
	}
	return fmt.Sprintf("%s:{%d}", key, i)
}

// companion names the stream beside a list so that both are in one hash slot: Redis
// hashes what is between the first brace and the next closing one, if it is not empty.
func companion(list string) (string, error) {
	if strings.IndexByte(list, '}') >= 0 && !tagged(list) {
		return "", fmt.Errorf("source.key %q: a list's key with a } needs a hash tag, {...}, that is not empty", list)
	}
	return beside(list, ":stream"), nil
}

// KeptStream is the key of the stream that keeps the entries that the source's stream held when it
// was raised to a position (Raise). It is a source like any other.
func (s *Source) KeptStream(position Position) string {
	return beside(s.stream, ":behind:"+position.String())
}

func beside(key, suffix string) string {
	if strings.IndexByte(key, '}') >= 0 {
		return key + suffix
	}
	return "{" + key + "}" + suffix
}

func tagged(key string) bool {
	open := strings.IndexByte(key, '{')
	return open >= 0 && strings.IndexByte(key[open:], '}') > 1
}

// Name is the key of the stream. Marks, checkpoints and dead letters go by it.
func (s *Source) Name() string { return s.stream }

// Decoder is what the source makes events with.
func (s *Source) Decoder() Decoder { return s.decoder }

// Key is what producers push to: the stream, or the list that feeds it.
func (s *Source) Key() string {
	if s.inlet != nil {
		return s.inlet.list
	}
	return s.stream
}

//go:embed scripts/*.lua
var scripts embed.FS

// script is a script of ours, run with flags of Redis. A script that writes has allow-oom: what we write
// frees memory, or is a few bytes without which no memory can be freed.
func script(name, flags string) *redis.Script {
	var text strings.Builder
	text.WriteString("#!lua flags=" + flags + "\n")
	for _, part := range []string{"prelude", name} {
		lines, err := scripts.ReadFile("scripts/" + part + ".lua")
		if err != nil {
			panic(err) // embedded: it cannot be missing
		}
		text.Write(lines)
	}
	return redis.NewScript(text.String())
}

var (
	inspectScript  = script("inspect", "no-writes")
	makeScript     = script("make", "allow-oom")
	raiseScript    = script("raise", "allow-oom")
	bookmarkScript = script("bookmark", "allow-oom")
	trimScript     = script("trim", "allow-oom")
	moveScript     = script("move", "allow-oom")
	rewindScript   = script("rewind", "allow-oom")
	fenceScript    = script("fence", "allow-oom")
)

// State is what Redis says of the stream at one moment. Counts are entries.
type State struct {
	Exists bool
	Last   Position // the id last given, whether or not its entry is still there
	Added  int64    // entries ever added
	Length int64    // entries there now

	Bookmark *Bookmark // nil if our group does not exist
	fence    string    // of the latest reset; empty: none
}

// Seen is what an attempt has seen of a stream when it began. By it Trim finds out whether Redis went back,
// or the source was reset, since. Its zero value is that of a stream without bookmark and fence.
type Seen struct {
	Bookmark Position // zero if there was none
	fence    string
}

// Seen is what is seen of the stream in this state.
func (s State) Seen() Seen {
	seen := Seen{fence: s.fence}
	if s.Bookmark != nil {
		seen.Bookmark = s.Bookmark.Position
	}
	return seen
}

// Bookmark is the state of our group.
type Bookmark struct {
	Position Position // last delivered
	Entries  int64    // entries ever added up to the position; -1 if Redis does not know
	Pending  Position // oldest entry delivered to a consumer but not acknowledged; zero if none
}

// Inspect asks for the state of the stream. A stream that does not exist is no error.
func (s *Source) Inspect(ctx context.Context) (State, error) {
	// Read-only also for Redis, so that a user who may not write can ask.
	reply, err := inspectScript.RunRO(ctx, s.client, []string{s.stream}, Group, fenceGroup).StringSlice()
	if err != nil {
		return State{}, s.failed("inspecting", err)
	}
	var p replyParser
	state := State{
		Exists: p.number(reply, 0) == 1, Last: p.position(reply, 1), Added: p.number(reply, 2),
		Length: p.number(reply, 3),
	}
	state.fence = p.at(reply, 4)
	if len(reply) > 5 {
		state.Bookmark = &Bookmark{Position: p.position(reply, 5), Entries: p.number(reply, 6), Pending: p.position(reply, 7)}
	}
	return state, p.err
}

// Begin is where to start without a checkpoint, and how many entries were added before that. A group of our
// name that another program read through is taken over where it is: at its oldest entry that is not
// acknowledged, or else after the last one delivered. Otherwise it is the beginning.
func (s State) Begin() (Position, int64) {
	gone := s.Added - s.Length // what was removed was at the beginning
	b := s.Bookmark
	switch {
	case b == nil || b.Position.IsZero():
		return Position{}, gone
	case !b.Pending.IsZero():
		return b.Pending.previous(), gone
	case b.Entries >= 0:
		return b.Position, b.Entries
	default:
		return b.Position, gone
	}
}

// Raise raises the stream's last id to the position, so that every new entry comes after it; entries is how
// many had been added up to there. A stream whose last id is before our checkpoint was recreated, or Redis was
// rolled back; ids that it gave at or before a mark would be taken for applied ones. It makes the stream if it
// is gone, and changes nothing if the last id is not before the position. Safe to repeat. After an error it may
// have been done. A repetition then finds nothing, and only the error says where unread entries are kept.
func (s *Source) Raise(ctx context.Context, position Position, entries int64) (Raised, error) {
	kept := s.KeptStream(position)
	if err := makeScript.Run(ctx, s.client, []string{s.stream}, Group).Err(); err != nil {
		return Raised{}, s.failed("making", err)
	}
	reply, err := raiseScript.Run(ctx, s.client, []string{s.stream, kept}, Group, position.String(), entries).Int64Slice()
	if err != nil {
		// If only the reply was lost, this is all that tells where they are; if not, there are none.
		return Raised{}, s.failed("raising (entries that were never read may be kept in "+kept+")", err)
	}
	if reply[1] == 0 {
		kept = ""
	}
	return Raised{Before: reply[0], Kept: kept}, nil
}

// Raised is what a Raise found.
type Raised struct {
	Before int64 // entries at or before the position, which hence will not be read

	// Kept is the stream that they were copied to, because they were most likely never applied: our bookmark
	// was not in the stream, or at its beginning, so that it is no older state of the stream that was read.
	// It is empty if they were applied.
	Kept string
}

// Read appends to the batch the entries that follow its last one, at most limit of them, and returns how many
// there were. If there is none it waits for the first one, but no longer than patience, and not for as long as
// the client waits for a reply; 0 is not to wait. None means that nothing was left at the end, in the stream and
// in the list. To cancel ctx does not end the wait for a stream.
func (s *Source) Read(ctx context.Context, batch *Batch, limit int, patience time.Duration) (int, error) {
	if s.inlet == nil {
		return s.readStream(ctx, batch, limit, patience)
	}
	if patience > 0 {
		if err := s.inlet.wait(ctx, patience); err != nil {
			return 0, err
		}
	}
	for {
		n, err := s.readStream(ctx, batch, limit, 0)
		if n > 0 || err != nil {
			return n, err
		}
		if moved, err := s.inlet.move(ctx); moved == 0 || err != nil {
			return 0, err
		}
	}
}

// readStream is Read for what is in the stream.
func (s *Source) readStream(ctx context.Context, batch *Batch, limit int, patience time.Duration) (int, error) {
	cmd, decode := redis.NewRawCmd(ctx, "XRANGE", s.stream, "("+batch.Last.String(), "+", "COUNT", limit), batch.decode
	if patience > 0 {
		cmd = redis.NewRawCmd(ctx, "XREAD", "COUNT", limit, "BLOCK", s.block(patience).Milliseconds(),
			"STREAMS", s.stream, batch.Last.String())
		cmd.SetFirstKeyPos(6)
		decode = batch.decodeWaited
	}
	if err := s.client.Process(ctx, cmd); err != nil {
		return 0, s.failed("reading", err)
	}
	n, err := decode(cmd.Val(), s.decoder)
	return n, s.failed("reading", err)
}

// block is how long Redis is told to wait: not so long that the client takes it for dead.
func (s *Source) block(patience time.Duration) time.Duration {
	var timeout time.Duration
	switch client := s.client.(type) {
	case *redis.Client:
		timeout = client.Options().ReadTimeout
	case *redis.ClusterClient:
		timeout = client.Options().ReadTimeout
	}
	if timeout > 0 {
		patience = min(patience, timeout/2)
	}
	return max(patience, time.Millisecond) // 0 would be without end
}

// Trimmed is what a trim did.
type Trimmed struct {
	Entries int64 // removed

	// WentBack says that the stream is gone, its last id is before the position, the bookmark has
	// gone back, or the source was reset: nothing was removed.
	WentBack bool
}

// Trim moves our bookmark forward to a position, up to which all must be durably processed, and then removes
// the entries up to there; entries is how many were ever added up to the position. It leaves what another
// group has not been given or has not acknowledged, and what is younger than retain. A bookmark that is gone
// is made again. If the bookmark is before where the caller last saw it (seen), Redis was rolled back; if
// there was a Rewind since, the source was reset: what the caller takes for processed need not be.
//
// Moving and removing are two scripts, of one write each. Nothing after the bookmark is removed, so that a
// reset between the two is seen by the second as well. Both work when Redis is out of memory. Safe to repeat,
// also after an error: the bookmark may then have been moved, and entries removed.
func (s *Source) Trim(
	ctx context.Context, processed Position, entries int64, retain time.Duration, seen Seen,
) (Trimmed, error) {
	keys := []string{s.stream}
	wentBack, err := bookmarkScript.Run(ctx, s.client, keys,
		Group, processed.String(), entries, seen.Bookmark.String(), fenceGroup, seen.fence).Int64()
	if err != nil {
		return Trimmed{}, s.failed("moving the bookmark of", err)
	}
	if wentBack == 1 {
		return Trimmed{WentBack: true}, nil
	}
	reply, err := trimScript.Run(ctx, s.client, keys,
		Group, processed.String(), processed.next().String(), retain.Milliseconds(), fenceGroup, seen.fence).Int64Slice()
	if err != nil {
		return Trimmed{}, s.failed("trimming", err)
	}
	if len(reply) != 2 {
		return Trimmed{}, s.failed("trimming", fmt.Errorf("%w: %v", errProtocol, reply))
	}
	return Trimmed{Entries: reply[0], WentBack: reply[1] == 1}, nil
}

// Waiting counts what is after a position, in the stream and in the list that feeds it; entries is how many
// Redis had been given up to the position. Where entries were removed by hand the count may be too high, but
// it is 0 only if nothing is left.
func (s *Source) Waiting(ctx context.Context, after Position, entries int64) (int64, error) {
	listed, err := s.listed(ctx)
	if err != nil {
		return 0, err
	}
	n, err := s.readStream(ctx, &Batch{Last: after}, 1, 0)
	if n == 0 || err != nil {
		return listed, err
	}
	state, err := s.Inspect(ctx)
	return listed + max(state.Added-entries, 1), err
}

// listed counts what is in the list that feeds the stream, if there is one.
func (s *Source) listed(ctx context.Context) (int64, error) {
	if s.inlet == nil {
		return 0, nil
	}
	n, err := s.client.LLen(ctx, s.inlet.list).Result()
	return n, s.failed("counting", err)
}

func (s *Source) failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, follows := s.client.(*redis.ClusterClient); !follows && redis.HasErrorPrefix(err, "MOVED") {
		err = fmt.Errorf("%w: %w", ErrCluster, err)
	}
	return ofRedis(fmt.Errorf("%s stream %s: %w", doing, s.stream, err))
}

// ErrRedis is in every error of a source that is Redis' answer, or came instead of one.
var ErrRedis = errors.New("Redis failed")

func ofRedis(err error) error { return &redisError{err} }

type redisError struct{ error }

func (e *redisError) Unwrap() []error { return []error{ErrRedis, e.error} }

// ErrCluster says that a client for one server was led to a node of a cluster, which does not have
// the key. It is a redis.Error, like the MOVED that is wrapped with it.
var ErrCluster redis.Error = clusterError{}

type clusterError struct{}

func (clusterError) Error() string { return "Redis is a cluster" }
func (clusterError) RedisError()   {}

// replyParser reads the strings that a script returned, and keeps the first error.
type replyParser struct{ err error }

func (p *replyParser) number(reply []string, i int) int64 {
	n, err := strconv.ParseInt(p.at(reply, i), 10, 64)
	p.keep(err)
	return n
}

func (p *replyParser) position(reply []string, i int) Position {
	position, err := ParsePosition(p.at(reply, i))
	p.keep(err)
	return position
}

func (p *replyParser) at(reply []string, i int) string {
	if i >= len(reply) {
		p.keep(fmt.Errorf("%w: %d values", errProtocol, len(reply)))
		return "0"
	}
	return reply[i]
}

func (p *replyParser) keep(err error) {
	if p.err == nil {
		p.err = err
	}
}
