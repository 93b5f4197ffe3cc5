package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/cluster"
	"aggregator/internal/runs"
)

const (
	// signs is how old the latest sign of life may be of a service or a member that counts as alive here. A service
	// writes its row every ten seconds, a member has a turn every five at least.
	signs = 15 * time.Second
	// settled is for how long a service must have run to count: one that has taken the place of another that was
	// killed would be counted beside it, and one that has just started may not be a member yet.
	settled = signs + 5*time.Second
	// lately is for how long a member that is gone counts: its service looks alive for a while.
	lately = time.Minute
	// jobLease is for how long a job takes its lease.
	jobLease = 10 * time.Second
)

// census is what the tables tell of the instances.
type census struct {
	now      time.Time // PostgreSQL's
	members  []cluster.Member
	leases   []cluster.Lease
	services []runs.Run // that have not ended, as far as is known
	drains   []runs.Run // that a schedule began since the first of these services started
}

func takeCensus(ctx context.Context, pool *pgxpool.Pool) (c census, err error) {
	if err = pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&c.now); err != nil {
		return c, err
	}
	if c.members, _, err = cluster.Members(ctx, pool); err != nil {
		return c, err
	}
	if c.leases, err = cluster.Leases(ctx, pool); err != nil {
		return c, err
	}
	live, err := runs.Live(ctx, pool)
	if err != nil {
		return c, err
	}
	first := c.now
	for _, run := range live {
		if run.Kind == runs.KindService && run.Outcome == runs.Running {
			c.services = append(c.services, run)
			if run.Started.Before(first) {
				first = run.Started
			}
		}
	}
	since, err := runs.During(ctx, pool, first, c.now)
	c.drains = slices.DeleteFunc(since, func(run runs.Run) bool { return run.Kind != runs.KindDrain || run.Due == nil })
	return c, err
}

// living is how many instances there are, of whatever group.
func (c census) living() int {
	services := 0
	for _, run := range c.services {
		if c.now.Sub(run.Seen) <= signs && c.now.Sub(run.Started) >= settled {
			services++
		}
	}
	members := 0
	for _, m := range c.members {
		if m.Lives(c.now) && c.now.Sub(m.Seen) <= signs {
			members++
		}
	}
	return max(services, members)
}

// settledServices are those of a group that drain all the time. What a schedule makes drain is none of them, as soon
// as it has drained.
func (c census) settledServices(group cluster.Group) (some []runs.Run) {
	note := "source " + group.Key // as the service notes its source
	if group.Partitions > 1 {
		note += fmt.Sprintf(", %d partitions", group.Partitions)
	}
	for _, run := range c.services {
		scheduled := slices.ContainsFunc(c.drains, func(drain runs.Run) bool {
			return drain.Host == run.Host && !drain.Started.Before(run.Started)
		})
		if run.Note == note && !scheduled && c.now.Sub(run.Seen) <= signs && c.now.Sub(run.Started) >= settled {
			some = append(some, run)
		}
	}
	return some
}

// sharing are the names of those that share the sources of a group by leases, or did until a moment ago.
func (c census) sharing(group cluster.Group) map[string]bool {
	names, members := map[string]bool{}, map[string]bool{}
	for _, m := range c.members {
		members[m.Instance] = true
		if m.Group == group && (m.Lives(c.now) || c.now.Sub(m.Seen) <= lately) {
			names[m.Instance] = true
		}
	}
	for _, l := range c.leases { // of a program that knows no members
		if !members[l.Holder] && l.Held(c.now) && !isJob(l.Source) {
			names[l.Holder] = true
		}
	}
	return names
}

func isJob(lease string) bool { return strings.HasPrefix(lease, "job:") }

// Instances looks at those that share the sources of a group: whether one without leases does double work beside
// them, or would with these settings, whether they divide the key in another way, and whether one that is gone
// keeps its leases.
func Instances(ctx context.Context, pool *pgxpool.Pool, group cluster.Group, ttl time.Duration) []Finding {
	r := &report{server: "PostgreSQL"}
	c, err := takeCensus(ctx, pool)
	if err != nil {
		r.notSeen("instances", err)
		return r.findings
	}
	r.instances(c, group, ttl)
	r.leases(c, ttl)
	return r.findings
}

func (r *report) instances(c census, group cluster.Group, ttl time.Duration) {
	var same, other []string
	for _, m := range c.members {
		switch {
		case !m.Lives(c.now):
		case m.Group == group:
			same = append(same, m.Instance)
		case m.Group.Key == group.Key:
			other = append(other, fmt.Sprintf("%s (%s)", m.Instance, m.Group))
		}
	}
	services, sharing := c.settledServices(group), c.sharing(group)
	worked := slices.ContainsFunc(services, func(run runs.Run) bool { return run.Read > 0 })
	switch {
	case len(other) > 0:
		r.add("instances", Warning,
			fmt.Sprintf("these drain the same key in another way than %s: %s", group, strings.Join(other, ", ")),
			"give all instances, and the producers, the same source.kind and source.partitions")
	// Services that have read nothing may wait for a schedule.
	case len(services) > max(1, len(sharing)) && (len(sharing) > 0 || worked):
		r.add("instances", Warning, fmt.Sprintf("%d services work on %s, and %d share it by leases; without leases: %s. "+
			"Such a one has lease.ttl 0s and drains all sources as well, or it has halted and stays",
			len(services), group, len(sharing), strings.Join(hostsOf(services, sharing), ", ")),
			"exact, but double work: give all instances the same lease.ttl, or run one alone; aggregator status, and the "+
				"log, say whether one has halted")
	case len(same) > 0 && ttl == 0:
		r.add("instances", Warning,
			fmt.Sprintf("lease.ttl is 0s here, and %d with leases share these sources: one without drains all of them as well",
				len(same)),
			"exact, but double work: give all instances the same lease.ttl")
	case len(same) > 0:
		r.ok("instances", "%d share the sources", len(same))
	case len(services) > 0:
		r.ok("instances", "no member shares the sources; without leases, or by schedule: %s",
			strings.Join(hostsOf(services, nil), ", "))
	case len(c.services) > 0:
		r.ok("instances", "no member shares the sources; services that have just started, drain by schedule, or have "+
			"another source: %s", strings.Join(hostsOf(c.services, nil), ", "))
	default:
		r.ok("instances", "none is running: events wait until aggregator run or drain is started")
	}
}

// hostsOf are the hosts of the services that are not among those that share, as far as names tell: one that
// lease.name does not name begins with its host.
func hostsOf(services []runs.Run, sharing map[string]bool) (hosts []string) {
	more := map[string]int{}
	for _, run := range services {
		more[run.Host]++
	}
	named := 0
	for name := range sharing {
		if host, _, is := strings.Cut(name, "/"); is && more[host] > 0 {
			more[host]--
		} else {
			named++
		}
	}
	for _, host := range slices.Sorted(maps.Keys(more)) {
		switch n := more[host]; {
		case n == 1:
			hosts = append(hosts, "one on "+host)
		case n > 1:
			hosts = append(hosts, fmt.Sprintf("%d on %s", n, host))
		}
	}
	if named > 0 {
		hosts = []string{fmt.Sprintf("%d of these: %s", len(services)-len(sharing), strings.Join(hosts, ", "))}
	}
	return hosts
}

// leases looks for instances that give no sign of life and keep others from their sources for longer than lease.ttl:
// their rows were written with a longer one, by a clock that was ahead, or by hand. One that ends later than any
// lease can is free, and the check of times names it.
func (r *report) leases(c census, ttl time.Duration) {
	if ttl == 0 {
		ttl = cluster.Longest
	}
	seen, until, held := map[string]time.Time{}, map[string]time.Time{}, map[string][]string{}
	for _, m := range c.members {
		seen[m.Instance] = m.Seen
		if m.Lives(c.now) && m.Expires.Sub(c.now) > ttl+clockSlack {
			until[m.Instance] = m.Expires
		}
	}
	for _, l := range c.leases {
		most := ttl
		if isJob(l.Source) {
			most = jobLease
		}
		if l.Held(c.now) && l.Expires.Sub(c.now) > most+clockSlack {
			held[l.Holder] = append(held[l.Holder], l.Source)
			if l.Expires.After(until[l.Holder]) {
				until[l.Holder] = l.Expires
			}
		}
	}
	before := len(r.findings)
	for _, instance := range slices.Sorted(maps.Keys(until)) {
		last, member := seen[instance]
		if age := c.now.Sub(last); member && age <= signs && age >= -clockSlack {
			continue // it lives, with a longer lease.ttl
		}
		sign := "it is no member"
		if member {
			sign = "it was last seen at " + last.UTC().Format(time.RFC3339)
		}
		effect := "it counts as a member until then"
		if n := len(held[instance]); n > 0 {
			names := held[instance]
			if n > 5 {
				names = append(names[:5:5], fmt.Sprintf("%d more", n-5))
			}
			effect = "no other instance takes these until then: " + strings.Join(names, ", ")
		}
		name := "'" + strings.ReplaceAll(instance, "'", "''") + "'"
		r.add("leases", Warning, fmt.Sprintf("the rows of %s last until %s, in %s, longer than lease.ttl here allows, and "+
			"%s: %s", instance, until[instance].UTC().Format(time.RFC3339), until[instance].Sub(c.now).Round(time.Second),
			sign, effect),
			fmt.Sprintf("if it has no longer lease.ttl, and is gone: DELETE FROM aggregator.lease WHERE holder = %[1]s; "+
				"DELETE FROM aggregator.member WHERE instance = %[1]s", name))
	}
	if len(r.findings) == before {
		r.ok("leases", "no instance that gives no sign of life keeps any for longer than lease.ttl")
	}
}
