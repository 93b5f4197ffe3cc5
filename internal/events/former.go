package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Known is a source that has been processed up to a position, and how many entries had been added to it
// up to there.
type Known struct {
	Name     string
	Position Position
	Entries  int64
}

// Elsewhere is a source that the settings do not name.
type Elsewhere struct {
	Source  *Source
	Former  bool   // it is of the same key, from another number of partitions or of the other kind
	Known   bool   // it was processed before
	Waiting int64  // entries that are not processed; -1: not known
	Problem string // why it cannot be drained, or looked at; empty if it can
	Halts   bool   // because of it a source of the settings cannot be drained either
}

// FindElsewhere finds the sources that the settings do not name. These are former ones of the same key that
// hold entries, among them those that were never processed; and all others that are known or named in extra,
// also if nothing waits in them. Partitions beyond those of the settings are looked for one after another,
// until a few are missing. It reads only. Keys that the Redis user has no right to are left out, unless they
// are known. The errors are those of Redis.
func FindElsewhere(
	ctx context.Context, client redis.UniversalClient, o Options, known []Known, extra []string,
) ([]Elsewhere, error) {
	f := finder{
		client: client, options: o,
		known: make(map[string]Known), configured: make(map[string]bool), seen: make(map[string]bool),
	}
	sources, err := Sources(client, o)
	if err != nil {
		return nil, err
	}
	for _, s := range sources {
		f.configured[s.Name()], f.seen[s.Name()] = true, true
	}
	for _, k := range known {
		f.known[k.Name] = k
	}
	if err := f.former(ctx); err != nil {
		return nil, err
	}
	for _, k := range known {
		extra = append(extra, k.Name)
	}
	for _, name := range extra {
		if f.seen[name] {
			continue
		}
		other := &Source{client: client, stream: name, inlet: feeding(client, o, name), decoder: NewDecoder(o.Weights)}
		if _, err := f.look(ctx, other, false); err != nil {
			return nil, err
		}
	}
	return f.found, nil
}

type finder struct {
	client     redis.UniversalClient
	options    Options
	known      map[string]Known
	configured map[string]bool // names of the sources of the settings
	seen       map[string]bool // names that were looked at
	found      []Elsewhere
}

// missingInARow is how many partitions may be missing among those that are there.
const missingInARow = 3

func (f *finder) former(ctx context.Context) error {
	if _, err := f.place(ctx, f.options.Key); err != nil {
		return err
	}
	last := f.options.Partitions - 1
	if f.options.Partitions == 1 {
		last = -1
	}
	for name := range f.known {
		last = max(last, f.partition(name))
	}
	for i, missing := 0, 0; i <= maxPartition && (i <= last || missing < missingInARow); i++ {
		there, err := f.place(ctx, partitionKey(f.options.Key, i, 2))
		if err != nil {
			return err
		}
		if missing++; there {
			missing = 0
		}
	}
	return nil
}

// partition is the number of the partition of the same key that a name stands for; -1 if it is none.
func (f *finder) partition(name string) int {
	text, ours := strings.CutPrefix(name, f.options.Key+":{")
	text, _ = strings.CutSuffix(text, ":stream")
	text, closed := strings.CutSuffix(text, "}")
	i, err := strconv.Atoi(text)
	if !ours || !closed || err != nil || i > maxPartition {
		return -1
	}
	return i
}

// maxPartition comes from no setting: it bounds how far we look.
const maxPartition = 1 << 12

// place looks at what a key may be to a source of either kind. It says whether there is anything.
func (f *finder) place(ctx context.Context, key string) (there bool, err error) {
	decoder := NewDecoder(f.options.Weights)
	if there, err = f.look(ctx, &Source{client: f.client, stream: key, decoder: decoder}, true); err != nil {
		return there, err
	}
	beside, err := companion(key)
	if err != nil {
		return there, nil //nolint:nilerr // then there never was a list at this key
	}
	fed, err := f.look(ctx, &Source{
		client: f.client, stream: beside, decoder: decoder,
		inlet: &inlet{client: f.client, list: key, stream: beside, side: f.options.PushSide},
	}, true)
	return there || fed, err
}

// look adds a source to those that were found, if it is to be reported. It says whether there is anything
// at its keys.
func (f *finder) look(ctx context.Context, s *Source, former bool) (there bool, err error) {
	if f.configured[s.stream] {
		return true, nil
	}
	f.seen[s.stream] = true
	at, processed := f.known[s.stream]
	e := Elsewhere{Source: s, Former: former, Known: processed}
	there, e.Waiting, err = f.count(ctx, s, at, processed)
	var reply redis.Error
	switch {
	case errors.As(err, &reply) && refusal(reply) == "NOPERM":
		if !processed {
			return false, nil
		}
		e.Problem, e.Waiting = "the Redis user has no right to look: "+reply.Error(), -1
	case errors.As(err, &reply) && refusal(reply) == "WRONGTYPE":
		if !processed {
			return there, nil // it is something else, and was never a source of this kind
		}
		e.Problem, e.Waiting = "the key holds something else now: "+reply.Error(), 0
	case err != nil:
		return there, err
	}
	if e.Waiting == 0 && !processed {
		return there, nil
	}
	if e.Waiting != 0 && e.Problem == "" {
		e.Problem = f.conflict(s, e.Waiting)
		e.Halts = e.Problem != ""
	}
	f.found = append(f.found, e)
	return there, nil
}

// conflict says why a former source cannot be drained although it can be read: the key of a source of the
// settings, which is of the other kind, holds it.
func (f *finder) conflict(s *Source, waiting int64) string {
	const text = "source.kind is %s, but the key %s holds a %s, with %d entries that are not processed: " +
		"set source.kind to %[3]s and drain it"
	if f.options.Kind == KindStream {
		if s.inlet != nil && f.configured[s.inlet.list] {
			return fmt.Sprintf(text, KindStream, s.inlet.list, KindList, waiting)
		}
		return ""
	}
	if beside, err := companion(s.stream); err == nil && f.configured[beside] {
		return fmt.Sprintf(text+"; then delete the key, and set source.kind to list again", KindList, s.stream, KindStream,
			waiting)
	}
	return ""
}

// count counts what waits in a source, processed up to a position or never.
func (f *finder) count(ctx context.Context, s *Source, at Known, processed bool) (
	there bool, waiting int64, err error,
) {
	listed, err := s.listed(ctx)
	var reply redis.Error
	switch {
	case errors.As(err, &reply) && slices.Contains([]string{"WRONGTYPE", "NOPERM"}, refusal(reply)):
		s.inlet = nil // there is no list, as far as we may know: what was moved from it may be there
	case err != nil:
		return false, 0, err
	case s.inlet != nil && listed == 0 && f.configured[s.inlet.list]:
		s.inlet = nil // the key is for a stream of the settings
	}
	state, err := s.Inspect(ctx)
	if err != nil {
		return true, 0, err
	}
	if !processed {
		at.Position, at.Entries = state.Begin()
	}
	waiting, err = s.Waiting(ctx, at.Position, at.Entries)
	return state.Exists || listed > 0, waiting, err
}

// refusal is the first word of an error that Redis answers with.
func refusal(err redis.Error) string {
	word, _, _ := strings.Cut(err.Error(), " ")
	return word
}

// feeding is the list that feeds a stream of this name, if it is a list's.
func feeding(client redis.UniversalClient, o Options, name string) *inlet {
	list, beside := strings.CutSuffix(name, ":stream")
	if !beside {
		return nil
	}
	if plain, ok := strings.CutPrefix(list, "{"); ok && strings.HasSuffix(plain, "}") && strings.Count(plain, "}") == 1 {
		list = strings.TrimSuffix(plain, "}")
	}
	return &inlet{client: client, list: list, stream: name, side: o.PushSide}
}

// EverExisted says whether there is anything at the keys of the source. It reads only.
func (s *Source) EverExisted(ctx context.Context) (bool, error) {
	listed, err := s.listed(ctx)
	if err != nil || listed > 0 {
		return listed > 0, err
	}
	state, err := s.Inspect(ctx)
	return state.Exists, err
}
