package service

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/aggregator"
	"aggregator/internal/cluster"
	"aggregator/internal/testenv"
)

// engine is one of a new instance, and what it has logged.
func (w *world) engine() (*Engine, *logged) {
	w.t.Helper()
	instance, log := w.instance()
	engine, err := instance.OpenEngine(w.t.Context(), nil)
	require.NoError(w.t, err)
	w.t.Cleanup(engine.Close)
	return engine, log
}

// drained drains by the settings of the world, and returns how many entries are left.
func (w *world) drained(limits aggregator.Limits) int64 {
	w.t.Helper()
	engine, _ := w.engine()
	left, err := engine.Drain(w.t.Context(), limits)
	require.NoError(w.t, err)
	return left
}

// A drain begins with former sources, and counts what it did there. It says once of each that it is drained.
func TestDrainOfFormerSources(t *testing.T) {
	w := newWorld(t)
	w.like("book-like-events", 1)
	require.Zero(t, w.drained(aggregator.Limits{}))
	w.cfg.Source.Partitions = 2
	w.like("book-like-events", 1, 2, 3) // a producer that nobody has told
	w.like(even, 2)
	w.like(odd, 1)

	engine, log := w.engine()
	waiting, err := engine.WaitingEverywhere(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 5, waiting)
	require.Equal(t, 1, log.times("entries wait in a former source of the same key: draining it, too"))
	left, err := engine.Drain(t.Context(), aggregator.Limits{})
	require.NoError(t, err)
	require.Zero(t, left)
	require.EqualValues(t, 5, engine.Stats().Read)
	require.EqualValues(t, 5, engine.Stats().Applied)
	require.EqualValues(t, 2, engine.Aggregator.Stats().Applied)
	require.Equal(t, 1, log.times("draining it, too"))
	require.Equal(t, 1, log.times(`msg="drained a former source" source=book-like-events read=3 applied=3 dead=0 left=0`))
	for profile, want := range map[int]int64{1: 6, 2: 4, 3: 2} {
		require.Equal(t, want, w.score(profile))
	}

	waiting, err = engine.WaitingEverywhere(t.Context())
	require.NoError(t, err)
	require.Zero(t, waiting)
	w.like("book-like-events", 1) // once more: that is news again
	_, err = engine.Drain(t.Context(), aggregator.Limits{})
	require.NoError(t, err)
	require.Equal(t, 2, log.times("draining it, too"))
	require.EqualValues(t, 6, engine.Stats().Applied)
}

// A limit of events holds for all sources together. Former ones come first.
func TestLimitsOfFormerSources(t *testing.T) {
	w := newWorld(t)
	w.cfg.Source.Partitions = 2
	w.like("book-like-events", 1, 2)
	w.like("book-like-events:{2}", 4)
	w.like(even, 2)
	for _, want := range []int64{3, 2, 1, 0} {
		require.Equal(t, want, w.drained(aggregator.Limits{MaxEvents: 1}))
	}
	for profile, want := range map[int]int64{1: 2, 2: 4, 4: 2} {
		require.Equal(t, want, w.score(profile))
	}
	w.like("book-like-events", 1)
	w.like(odd, 1)
	require.Zero(t, w.drained(aggregator.Limits{MaxDuration: time.Hour}))
	require.EqualValues(t, 6, w.score(1))
}

// So does one of time: what the first one uses is not given to the next.
func TestTimeForFormerSources(t *testing.T) {
	w := newWorld(t)
	w.cfg.Source.Partitions = 2
	w.like("book-like-events", 1)
	w.like("book-like-events:{2}", 4)
	w.exec(`CREATE FUNCTION stuck() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'stuck' USING ERRCODE = 'serialization_failure';
END $$`)
	w.exec(`CREATE TRIGGER stuck BEFORE UPDATE ON aggregator.checkpoint FOR EACH ROW EXECUTE FUNCTION stuck()`)
	engine, log := w.engine()
	left, err := engine.Drain(t.Context(), aggregator.Limits{MaxDuration: 500 * time.Millisecond})
	require.NoError(t, err)
	require.EqualValues(t, 2, left)
	require.Equal(t, 1, log.times(`msg="drained a former source"`))
	require.Nil(t, engine.former.now, "nothing is kept of it but its counts")
}

// A service drains them beside its own, unless another instance does.
func TestServiceDrainsFormerSources(t *testing.T) {
	w := newWorld(t)
	w.cfg.Source.Partitions = 2
	w.like("book-like-events", 1)
	instance, log := w.instance()
	pool, err := instance.OpenPostgres(t.Context(), 1)
	require.NoError(t, err)
	defer pool.Close()
	_, err = cluster.Acquire(t.Context(), pool, leaseOf("former"), "another", time.Minute)
	require.NoError(t, err)
	engine, err := instance.OpenEngine(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(engine.Close)
	engine.instance.jobLease = 100 * time.Millisecond // for so long it looks whether the other one lives
	found, err := engine.elsewhere(t.Context())
	require.NoError(t, err)
	stay := make(chan struct{})
	go func() { // it does
		defer close(stay)
		for range 20 {
			_, _ = cluster.Acquire(t.Context(), pool, leaseOf("former"), "another", time.Minute)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	require.NoError(t, engine.drainFormerAlone(t.Context(), found))
	<-stay
	require.Zero(t, w.score(1))
	require.Zero(t, log.times("drained a former source"))
	require.NoError(t, cluster.Release(t.Context(), pool, leaseOf("former"), "another"))

	r := w.open(w.instance())
	r.start()
	w.eventually(func() bool { return w.score(1) == 2 })
	w.like(odd, 1)
	w.eventually(func() bool { return w.score(1) == 4 })
	w.eventually(func() bool { return r.counts().Applied == 2 })
	r.stop()
}

// The key holds the other kind: nothing can be drained, and each drain says what to set.
func TestDrainIsBlocked(t *testing.T) {
	w := newWorld(t)
	w.like("book-like-events", 1)
	w.cfg.Source.Kind, w.cfg.Source.Key = "list", "book-like-events"
	engine, log := w.engine()
	const want = "entries wait in former sources that cannot be drained: book-like-events: source.kind is list, but the " +
		"key book-like-events holds a stream"
	_, err := engine.WaitingEverywhere(t.Context())
	require.ErrorContains(t, err, want)
	_, err = engine.Drain(t.Context(), aggregator.Limits{})
	require.ErrorContains(t, err, want)
	require.Equal(t, 1, log.times("entries wait in a former source, and it cannot be drained"))
	require.Zero(t, w.score(1))
}

// What Redis refuses before the first attempt is said with what to do about it, as by a source that halts.
func TestRefusedBeforeTheDrain(t *testing.T) {
	for _, command := range []string{"xinfo", "eval", "evalsha"} {
		t.Run(command, func(t *testing.T) {
			w := newWorld(t)
			w.like("book-like-events", 1)
			w.cfg.Redis.URL = config.URL(testenv.RedisAs(t, string(w.cfg.Redis.URL), "aggregator_stream", ""))
			require.NoError(t, w.redis.Do(t.Context(), "ACL", "SETUSER", "aggregator_stream", "-"+command).Err())
			engine, _ := w.engine()
			_, err := engine.WaitingEverywhere(t.Context())
			if err == nil {
				_, err = engine.Drain(t.Context(), aggregator.Limits{})
			}
			require.ErrorContains(t, err, "config/redis.acl")
		})
	}
}
