package service

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/cluster"
)

// Two services share two sources evenly. A reload moves none of them; one that begins to drain by
// schedule gives up what it had.
func TestServicesShare(t *testing.T) {
	w := newWorld(t)
	w.cfg.Source.Partitions = 2
	w.cfg.Lease.TTL = 20 * time.Second // it must not be what hands over
	a := w.open(w.instance()).start()
	w.eventually(func() bool { return leased(a, even) && leased(a, odd) })
	b := w.open(w.instance()).start()
	one := func(r *running) bool { return leased(r, even) != leased(r, odd) }
	w.eventually(func() bool { return one(a) && one(b) && leased(a, even) != leased(b, even) })

	had, heavier := leased(a, even), w.cfg
	heavier.Events.Weights = map[string]float64{"LIKE": 10}
	a.read(heavier, nil, `msg="reloaded the settings" applied=[events.weights]`)
	w.like(even, 2)
	w.like(odd, 1)
	w.eventually(func() bool { return a.Stats().Read == 1 && b.Stats().Read == 1 }) // a's count from the reload on
	require.Equal(t, had, leased(a, even))
	figures, shares := a.leases()
	require.True(t, shares)
	require.EqualValues(t, 2, figures.Moves[cluster.MoveFree])
	require.EqualValues(t, 1, figures.Moves[cluster.MoveSurplus])
	require.Equal(t, []int{1, 1, 2}, []int{figures.Held, figures.Target, figures.Members})

	heavier.Schedule.Drain = "@yearly"
	a.read(heavier, nil, `msg="reloaded the settings" applied=[schedule.drain]`)
	w.eventually(func() bool { return leased(b, even) && leased(b, odd) })
	_, shares = a.leases()
	require.False(t, shares)
	a.read(w.cfg, nil, `msg="reloaded the settings" applied="[events.weights schedule.drain]"`)
	w.eventually(func() bool { return one(a) && one(b) && leased(a, even) != leased(b, even) })
	a.stop()
	b.stop()
	require.Zero(t, w.number(`SELECT (SELECT count(*) FROM aggregator.member) + (SELECT count(*) FROM aggregator.lease)`))
}

// Of two services of one name the second ends, with an error that says so; one without leases is
// told that it is not alone.
func TestServiceOfTheSameName(t *testing.T) {
	w := newWorld(t)
	w.cfg.Lease.TTL, w.cfg.Lease.Name = 3*time.Second, "me"
	first := w.open(w.instance()).start()
	w.eventually(func() bool { return first.Status()[0].Leased })
	second := w.open(w.instance()).start()
	second.requireEnd(require.Error)
	require.ErrorIs(t, second.err, cluster.ErrNameTaken)
	require.True(t, first.Status()[0].Leased)

	w.cfg.Lease.TTL = 0
	third := w.open(w.instance()).start()
	w.eventually(func() bool {
		return third.log.times(`msg="lease.ttl is 0s, and other instances share these sources: this one drains all of them `+
			`as well, which is exact but double work" others=1 one_of_them=me`) == 1
	})
	w.like("book-like-events", 1, 2, 3)
	w.eventually(func() bool {
		return w.number(`SELECT coalesce(sum(entries - base), 0)::bigint FROM aggregator.checkpoint`) == 3
	})
	third.stop()
	first.stop()
	for profile := 1; profile <= 3; profile++ {
		require.EqualValues(t, 2, w.score(profile))
	}
}
