package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func names(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return all
}

// drawShares draws sources, members, and any holders of any of the sources, also such as are no members.
func drawShares(t *rapid.T) Shares {
	s := Shares{
		Sources: names("s", rapid.IntRange(0, 70).Draw(t, "sources")),
		Members: names("m", rapid.IntRange(0, 20).Draw(t, "members")),
		Holder:  make(map[string]string),
	}
	for _, source := range s.Sources {
		if who := rapid.IntRange(-3, len(s.Members)).Draw(t, source); who >= 0 {
			s.Holder[source] = fmt.Sprintf("m%d", who) // the last is no member
		}
	}
	return s
}

// shuffled is the same in another order.
func (s Shares) shuffled(r *rand.Rand) Shares {
	other := Shares{slices.Clone(s.Sources), slices.Clone(s.Members), maps.Clone(s.Holder)}
	r.Shuffle(len(other.Sources),
		func(i, j int) { other.Sources[i], other.Sources[j] = other.Sources[j], other.Sources[i] })
	r.Shuffle(len(other.Members),
		func(i, j int) { other.Members[i], other.Members[j] = other.Members[j], other.Members[i] })
	return other
}

// Targets add up to all sources and are at most one apart; what is free goes to members below
// their target only, what is given up is what is beyond it; and all this is the same whoever sees it.
func TestSharesOfAnything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawShares(t)
		other := s.shuffled(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)))
		targets, has := s.Targets(), s.counts()
		require.Len(t, targets, len(s.Members))
		require.Equal(t, targets, other.Targets())
		require.Equal(t, s.Free(), other.Free())
		if len(s.Members) == 0 {
			require.Empty(t, s.Free())
			return
		}
		sum, low, high := 0, len(s.Sources), 0
		for _, n := range targets {
			sum, low, high = sum+n, min(low, n), max(high, n)
		}
		require.Equal(t, len(s.Sources), sum)
		require.LessOrEqual(t, high-low, 1)

		gets := maps.Clone(has)
		for source, member := range s.Free() {
			require.NotContains(t, s.Holder, source)
			gets[member]++
		}
		for member, n := range gets {
			if n > has[member] {
				require.LessOrEqual(t, n, targets[member])
			}
		}
		held := 0
		for _, n := range has {
			held += n
		}
		lacks := 0
		for _, member := range s.Members {
			lacks += max(0, targets[member]-has[member])
		}
		require.Len(t, s.Free(), min(len(s.Sources)-held, lacks))
		for _, member := range s.Members {
			surplus := s.Surplus(member)
			require.Equal(t, surplus, other.Surplus(member))
			require.Len(t, surplus, max(0, has[member]-targets[member]))
			for _, source := range surplus {
				require.Equal(t, member, s.Holder[source])
			}
		}
	})
}

// converge lets all give up and take, in any order and one after the other, until nothing is left
// to do. It returns how many sources have moved, and those that went from one to another that were
// both there all the time.
func (s *Shares) converge(t require.TestingT, r *rand.Rand, newcomers ...string) (moved, among int) {
	was := maps.Clone(s.Holder)
	for round := 0; ; round++ {
		require.Less(t, round, 3, "it does not come to an end")
		busy := false
		for _, i := range r.Perm(len(s.Members)) {
			for _, source := range s.Surplus(s.Members[i]) {
				delete(s.Holder, source)
				busy = true
			}
		}
		for _, i := range r.Perm(len(s.Members)) {
			for source, member := range s.Free() {
				if member == s.Members[i] {
					s.Holder[source] = member
					busy = true
				}
			}
		}
		if !busy {
			break
		}
	}
	for source, holder := range s.Holder {
		if was[source] != holder {
			moved++
			if was[source] != "" && !slices.Contains(newcomers, holder) {
				among++
			}
		}
	}
	return moved, among
}

// One that joins or leaves moves no more than its share, and nothing among the others. A
// newcomer's name may come before all others or after them.
func TestSharesMoveLittle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		s := Shares{
			Sources: names("s", rapid.SampledFrom([]int{1, 5, 12, 64}).Draw(t, "sources")),
			Members: names("m", rapid.IntRange(1, 20).Draw(t, "members")), Holder: make(map[string]string),
		}
		s.converge(t, r)
		for step := range rapid.IntRange(1, 10).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "joins") || len(s.Members) == 1 {
				newcomer := fmt.Sprintf("%s%d", rapid.SampledFrom([]string{"a", "n", "m1"}).Draw(t, "name"), 100+step)
				s.Members = append(s.Members, newcomer)
				moved, among := s.converge(t, r, newcomer)
				require.LessOrEqual(t, moved, ceil(len(s.Sources), len(s.Members)))
				require.Zero(t, among)
			} else {
				i := rapid.IntRange(0, len(s.Members)-1).Draw(t, "leaves")
				gone, before := s.Members[i], len(s.Members)
				s.Members = slices.Delete(s.Members, i, i+1)
				had := s.counts()[gone]
				maps.DeleteFunc(s.Holder, func(_, holder string) bool { return holder == gone })
				moved, among := s.converge(t, r)
				require.Equal(t, had, moved)
				require.LessOrEqual(t, moved, ceil(len(s.Sources), before))
				require.Zero(t, among)
			}
			has := s.counts()
			require.Len(t, s.Holder, len(s.Sources))
			for _, member := range s.Members {
				require.Equal(t, s.Targets()[member], has[member])
			}
		}
	})
}

func ceil(a, b int) int { return (a + b - 1) / b }

// A single source stays where it is when an instance joins whose name comes first.
func TestSharesOfASingleSource(t *testing.T) {
	t.Parallel()
	s := Shares{Sources: []string{"s"}, Members: []string{"b", "a"}, Holder: map[string]string{"s": "b"}}
	require.Equal(t, map[string]int{"a": 0, "b": 1}, s.Targets())
	require.Empty(t, s.Surplus("b"))
	s.Holder = nil
	require.Equal(t, map[string]int{"a": 1, "b": 0}, s.Targets())
}

// Names spread the sources: no member is the favorite of too many.
func TestSharesAreSpread(t *testing.T) {
	t.Parallel()
	count := make(map[string]int)
	members := Shares{Sources: names("s", 10_000), Members: names("m", 10)}
	room := members.under(members.Targets())
	for _, source := range members.Sources {
		_, best := bestOf(room, hash(source))
		count[best.name]++
	}
	for member, n := range count {
		require.InDelta(t, 1000, n, 150, member) // five standard deviations
	}
}

func BenchmarkShares(b *testing.B) {
	s := Shares{Sources: names("s", 10_000), Members: names("m", 1000), Holder: make(map[string]string)}
	s.converge(b, rand.New(rand.NewPCG(1, 1)))
	for b.Loop() {
		s.Targets()
		s.Free()
		s.Surplus("m0")
	}
}
