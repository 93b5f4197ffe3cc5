package cluster

import (
	"cmp"
	"slices"
)

// Shares are sources, the instances that share them, and what each of these has, as one statement has shown
// it. All instances that see the same come to the same result.
type Shares struct {
	Sources []string          // all of them, each once
	Members []string          // those that may have some, each once
	Holder  map[string]string // of each source that is held; also by an instance that is not to have any
}

// Targets says how many sources each member is to have. The numbers differ by one at most, and their sum is
// the number of sources. If some are to have one more, these are first the members that have that many already,
// then the first by name. So a member that joins takes only what it is to keep, and what a leaving member had
// goes to others without a further move.
func (s Shares) Targets() map[string]int {
	targets := make(map[string]int, len(s.Members))
	if len(s.Members) == 0 {
		return targets
	}
	least, more := len(s.Sources)/len(s.Members), len(s.Sources)%len(s.Members)
	has := s.counts()
	rank := func(member string) int {
		if has[member] > least {
			return 0
		}
		return 1
	}
	members := slices.SortedFunc(slices.Values(s.Members), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	for i, member := range members {
		targets[member] = least
		if i < more {
			targets[member]++
		}
	}
	return targets
}

// Free says which member is to take each source that no instance has. A source goes to the member that it
// fits best (rendezvous hashing), of those that have fewer than their target.
func (s Shares) Free() map[string]string {
	taker := make(map[string]string)
	if len(s.Holder) == len(s.Sources) {
		return taker
	}
	var free []string
	for _, source := range s.Sources {
		if _, held := s.Holder[source]; !held {
			free = append(free, source)
		}
	}
	slices.Sort(free)
	room := s.under(s.Targets())
	for _, source := range free {
		if len(room) == 0 { // members hold what they are not to have
			break
		}
		at, best := bestOf(room, hash(source))
		taker[source] = best.name
		if room[at].lacks--; room[at].lacks == 0 {
			room = slices.Delete(room, at, at+1)
		}
	}
	return taker
}

// Surplus is what an instance is to give up, as many as it has beyond its target: first those that fit best
// to members that lack some. An instance that is no member has no target, and gives up everything, but only
// if there are members.
func (s Shares) Surplus(member string) []string {
	var held []string
	for _, source := range s.Sources {
		if s.Holder[source] == member {
			held = append(held, source)
		}
	}
	if len(s.Members) == 0 || slices.Contains(s.Members, member) && len(held) <= len(s.Sources)/len(s.Members) {
		return nil // no member is to have it, or there is no need to look further
	}
	targets := s.Targets()
	over := len(held) - targets[member]
	if over <= 0 {
		return nil
	}
	room := s.under(targets)
	fit := make(map[string]uint64, len(held))
	for _, source := range held {
		if len(room) > 0 {
			_, best := bestOf(room, hash(source))
			fit[source] = weight(best.hash, hash(source))
		}
	}
	slices.SortFunc(held, func(a, b string) int { return cmp.Or(cmp.Compare(fit[b], fit[a]), cmp.Compare(a, b)) })
	return held[:over]
}

func (s Shares) counts() map[string]int {
	has := make(map[string]int, len(s.Members))
	for _, source := range s.Sources {
		if holder, held := s.Holder[source]; held {
			has[holder]++
		}
	}
	return has
}

// lacking is a member that has fewer sources than it is to have.
type lacking struct {
	name  string
	hash  uint64
	lacks int
}

// under are the members below their target, by name.
func (s Shares) under(targets map[string]int) []lacking {
	has := s.counts()
	var all []lacking
	for _, member := range s.Members {
		if lacks := targets[member] - has[member]; lacks > 0 {
			all = append(all, lacking{member, hash(member), lacks})
		}
	}
	slices.SortFunc(all, func(a, b lacking) int { return cmp.Compare(a.name, b.name) })
	return all
}

// bestOf is the one that a source fits best.
func bestOf(members []lacking, source uint64) (at int, best lacking) {
	most := uint64(0)
	for i, m := range members {
		if w := weight(m.hash, source); i == 0 || w > most {
			at, most = i, w
		}
	}
	return at, members[at]
}

// weight is how well a source fits a member: a number that depends only on both names.
func weight(member, source uint64) uint64 { return mix(member ^ mix(source)) }

// hash is FNV-1a. It must not change: during an upgrade old and new instances are to agree.
func hash(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the last step of splitmix64: each bit of the result depends on all bits.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
