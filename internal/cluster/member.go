package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Group is the source that instances share. Instances of another group have nothing to do with them.
type Group struct {
	Kind       string
	Key        string
	Partitions int
}

func (g Group) String() string {
	if g.Partitions == 1 {
		return fmt.Sprintf("the %s %s", g.Kind, g.Key)
	}
	return fmt.Sprintf("the %s %s in %d partitions", g.Kind, g.Key, g.Partitions)
}

// Member is an instance that shares sources.
type Member struct {
	Instance string
	Token    string // of the process
	Started  time.Time
	Seen     time.Time
	Expires  time.Time
	Draining bool   // it gives up what it has
	Version  string // of the program; empty if it is not known
	Group    Group
}

// Lives says whether the instance was alive at that moment, by PostgreSQL's clock.
func (m Member) Lives(now time.Time) bool { return lives(m.Expires, now) }

// sharesOf are the sources that the members of a group share. A holder that is no member is an older program,
// which takes what it can: it counts as a member. A member of another group may have sources of this group as
// well; what it has is not to be shared by the members of this one. Those other members are returned, too.
func sharesOf(members []Member, holder map[string]string, now time.Time, group Group, sources []string) (
	s Shares, others []Member,
) {
	s.Holder = make(map[string]string, len(holder))
	known := make(map[string]bool) // instances that count already, or are not to count
	foreign := make(map[string]bool)
	for _, m := range members {
		if !m.Lives(now) {
			continue
		}
		known[m.Instance] = true
		switch {
		case m.Group != group:
			foreign[m.Instance] = true
			others = append(others, m)
		case !m.Draining:
			s.Members = append(s.Members, m.Instance)
		}
	}
	for _, source := range sources {
		who, held := holder[source]
		if foreign[who] {
			continue
		}
		s.Sources = append(s.Sources, source)
		if !held {
			continue
		}
		s.Holder[source] = who
		if !known[who] {
			known[who] = true
			s.Members = append(s.Members, who)
		}
	}
	return s, others
}

// TargetsOf says how many of its sources each instance of a group is to have.
func TargetsOf(members []Member, leases []Lease, now time.Time, group Group, sources []string) map[string]int {
	holder := make(map[string]string)
	for _, l := range leases {
		if l.Held(now) {
			holder[l.Source] = l.Holder
		}
	}
	s, _ := sharesOf(members, holder, now, group, sources)
	return s.Targets()
}

// keepGone is how long the row of an instance that is gone without having left is kept, for people.
const keepGone = 24 * time.Hour

// Members returns all members, by name, also those that are gone, and the time by PostgreSQL's clock.
func Members(ctx context.Context, pool *pgxpool.Pool) (members []Member, now time.Time, err error) {
	rows, _ := pool.Query(ctx, // its error is also that of the rows
		`SELECT instance, token, started_at, seen_at, expires_at, draining, coalesce(version, ''),
    coalesce(source_kind, ''), coalesce(source_key, ''), coalesce(partitions, 0), now()
FROM aggregator.member ORDER BY instance`)
	members, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Member, err error) {
		err = row.Scan(&m.Instance, &m.Token, &m.Started, &m.Seen, &m.Expires, &m.Draining, &m.Version,
			&m.Group.Kind, &m.Group.Key, &m.Group.Partitions, &now)
		return m, err
	})
	if err != nil {
		return nil, now, fmt.Errorf("reading members: %w", err)
	}
	return members, now, nil
}
