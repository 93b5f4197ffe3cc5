package aggregator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const chunkBytes = 64 << 20

// after is a moment so many milliseconds after the start.
func after(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func TestBatchPolicy(t *testing.T) {
	const ms = time.Millisecond
	type step = func(*batchPolicy)
	came := func(asked, n int) step { return func(p *batchPolicy) { p.add(asked, n, 100*n) } }
	bytes := func(n int) step { return func(p *batchPolicy) { p.add(100, 1, n) } }
	handed := func(at int) step { return func(p *batchPolicy) { p.handed(after(at)) } }
	freed := func(at, limit int) step { return func(p *batchPolicy) { p.freed(after(at), limit) } }
	spent := (*batchPolicy).spent
	service := batchPolicy{maxEvents: 1000, maxBytes: chunkBytes, maxWait: 10 * ms}
	drain := batchPolicy{maxEvents: 1000, maxBytes: chunkBytes, maxWait: 10 * ms, once: true}
	hasty := batchPolicy{maxEvents: 1000, maxBytes: chunkBytes}
	patient := batchPolicy{maxEvents: 1000, maxBytes: chunkBytes, maxWait: time.Minute}

	for _, c := range []struct {
		name  string
		from  batchPolicy
		steps []step
		now   int
		want  decision
		wait  time.Duration
	}{
		{"nothing is read yet", service, nil, 0, readOn, 0},
		{"a whole page came", service, []step{came(100, 100)}, 0, readOn, 0},
		{"nothing came", service, []step{came(100, 0)}, 0, idle, 0},
		{"the first event goes at once", service, []step{came(100, 1)}, 0, handOver, 0},
		{"nothing was left behind it", service, []step{came(100, 1), handed(0)}, 0, idle, 0},
		{"more may be behind a whole page", service, []step{came(1000, 1000), handed(0)}, 0, readOn, 0},
		{"there is no budget", service, []step{spent}, 0, end, 0},
		{"the budget ends within a chunk", service, []step{came(100, 100), spent}, 0, handOver, 0},
		{
			"the budget ends while the applier is busy", service,
			[]step{came(100, 1), handed(0), came(5, 5), spent},
			50, wait, time.Second,
		},

		{"a chunk is full", service, []step{came(900, 900), came(100, 100)}, 0, handOver, 0},
		{
			"a full chunk does not wait for more", service,
			[]step{came(100, 1), handed(0), freed(5, 0), came(1000, 1000)},
			6, handOver, 0,
		},
		{
			"a full chunk waits for the applier", service,
			[]step{came(100, 1), handed(0), came(1000, 1000)},
			5, wait, time.Second,
		},
		{
			"an eighth of the memory is left beside a large chunk", service,
			[]step{bytes(chunkBytes), handed(0), bytes(chunkBytes / 8)},
			0, wait, time.Second,
		},
		{
			"a full chunk remains so", service,
			[]step{bytes(chunkBytes), handed(0), bytes(chunkBytes / 8), freed(5, 0)},
			5, handOver, 0,
		},
		{
			"all of the memory but that of a small chunk", service,
			[]step{bytes(chunkBytes / 2), handed(0), bytes(chunkBytes/2 - 1)},
			0, wait, 10 * ms,
		},
		{
			"all of the memory when none is in flight", service,
			[]step{bytes(chunkBytes), handed(0), freed(5, 0), bytes(chunkBytes - 1)},
			5, wait, 10 * ms,
		},

		{"the applier is busy", service, []step{came(100, 1), handed(0), came(100, 1)}, 300, wait, 10 * ms},
		{
			"the applier is busy for long", patient,
			[]step{came(100, 1), handed(0), came(100, 1)},
			300, wait, time.Second,
		},
		{
			"it is not asked all the time without a wait", hasty,
			[]step{came(100, 1), handed(0), came(100, 1)},
			300, wait, 5 * ms,
		},
		{"the applier rests", service, []step{came(100, 1), handed(0), freed(7, 0), came(100, 1)}, 9, wait, 8 * ms},
		{
			"the applier has rested", service,
			[]step{came(100, 1), handed(0), freed(7, 0), came(100, 1)},
			17, handOver, 0,
		},
		{
			"the source was quiet", service,
			[]step{came(100, 1), handed(0), freed(7, 0), came(100, 0), came(100, 1)},
			900, handOver, 0,
		},
		{
			"hand-overs are not further apart for a rest", service,
			[]step{came(100, 1), handed(0), freed(45, 0), came(100, 1)},
			46, wait, 4 * ms,
		},
		{
			"after a long chunk there is no rest", service,
			[]step{came(100, 1), handed(0), freed(51, 0), came(100, 1)},
			51, handOver, 0,
		},
		{
			"without a wait there is no rest", hasty,
			[]step{came(100, 1), handed(0), freed(7, 0), came(100, 1)},
			7, handOver, 0,
		},
		{
			"a long rest shows signs of life", patient,
			[]step{came(100, 1), handed(0), freed(7, 0), came(100, 1)},
			8, wait, time.Second,
		},

		{"a drain reads on until nothing comes", drain, []step{came(100, 1)}, 0, readOn, 0},
		{"a drain finds nothing", drain, []step{came(100, 0)}, 0, end, 0},
		{
			"a drain does not rest", drain,
			[]step{came(100, 1), handed(0), freed(7, 0), came(100, 1), came(100, 0)},
			7, handOver, 0,
		},
		{
			"a drain waits for the applier", drain,
			[]step{came(100, 1), handed(0), came(100, 1), came(100, 0)},
			7, wait, time.Second,
		},
		{
			"after its last chunk a drain looks again", drain,
			[]step{came(100, 1), came(100, 0), handed(0)},
			7, readOn, 0,
		},

		{
			"after a time-out",
			batchPolicy{maxEvents: 1000, maxBytes: chunkBytes, limit: 3},
			[]step{came(3, 3)},
			0, handOver,
			0,
		},
		{
			"and the chunk after that",
			batchPolicy{maxEvents: 1000, maxBytes: chunkBytes, limit: 3},
			[]step{came(3, 3), handed(0), freed(1, 6), came(3, 3)},
			1, readOn, 0,
		},
		{
			"the limit is no more than all",
			batchPolicy{maxEvents: 4, maxBytes: chunkBytes, limit: 6},
			[]step{came(4, 4)},
			0,
			handOver, 0,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := c.from
			for _, step := range c.steps {
				step(&p)
			}
			got, d := p.next(after(c.now))
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.wait, d)
		})
	}
}

// Whatever happens, a chunk keeps its limits, the applier never has two, and each question has
// an answer that leads on.
func TestBatchPolicyKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := batchPolicy{
			maxEvents: rapid.IntRange(1, 500).Draw(t, "max events"),
			maxBytes:  rapid.SampledFrom([]int{chunkBytes, 10_000}).Draw(t, "max bytes"),
			maxWait:   time.Duration(rapid.IntRange(0, 100).Draw(t, "max wait")) * time.Millisecond,
			once:      rapid.Bool().Draw(t, "once"),
			limit:     rapid.IntRange(0, 500).Draw(t, "limit"),
		}
		now, busy, entries, drained := start, false, 0, false
		var handed, freed time.Time
		for range 100 {
			what, d := p.next(now)
			require.GreaterOrEqual(t, p.room(), 0)
			switch what {
			case readOn:
				require.False(t, drained, "the source was just found empty")
				asked := min(p.room(), 100)
				require.Positive(t, asked)
				came := rapid.IntRange(0, asked).Draw(t, "came")
				p.add(asked, came, came*rapid.IntRange(1, p.maxBytes/200).Draw(t, "bytes"))
				entries, drained = entries+came, came == 0 || came < asked && !p.once
				require.LessOrEqual(t, entries, p.maxEvents)
				continue
			case end:
				require.True(t, p.once)
				require.Zero(t, entries)
				return
			case idle:
				require.Zero(t, entries)
				now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "quiet")) * time.Millisecond)
			case wait:
				require.Positive(t, entries)
				require.Positive(t, d)
				require.LessOrEqual(t, d, time.Second)
				require.True(t, busy || d <= p.maxWait && !p.once, "only the applier is waited for longer")
				now = now.Add(d)
				if busy && rapid.Bool().Draw(t, "free") {
					busy, freed = false, now
					p.freed(now, 0)
				}
			case handOver:
				require.Positive(t, entries)
				require.False(t, busy)
				if p.room() > 0 && !handed.IsZero() {
					require.True(t, !now.Before(freed.Add(p.maxWait)) || !now.Before(handed.Add(apartFactor*p.maxWait)))
				}
				p.handed(now)
				busy, handed, entries, drained = true, now, 0, drained && !p.once
				continue
			}
			if p.room() > 0 { // time has passed: something may have come
				asked := min(p.room(), 100)
				came := rapid.IntRange(0, asked).Draw(t, "came later")
				p.add(asked, came, 100*came)
				entries, drained = entries+came, came < asked && !p.once || came == 0
			}
		}
	})
}
