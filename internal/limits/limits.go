// Package limits keeps the process within the memory that its container or unit may use: the goal
// of the garbage collector, and how large chunks and caches may become with it.
package limits

import (
	"errors"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const mib = 1 << 20

const (
	// usualGoal is how much memory the collector tries to keep us below where there is no limit and
	// chunks are as large as they can be. It works harder then, and is not noticed otherwise.
	usualGoal = 102 * mib
	// outside is what we need beside what the collector counts, at least: the parts of the program
	// that are in memory, and what the kernel holds for connections.
	outside = 16 * mib
	// idle is what of the goal is taken while there is no event.
	idle = 12 * mib

	// usualChunk is what the chunks of a source may hold where memory is not short: some 48 bytes an
	// event, so a million events. With a third more, a chunk of a long backlog would be read into
	// new memory while as much, of the chunk before the last, waits for the collector. If each event
	// is of another profile, it costs eight times as much while it is applied: its run, its mark,
	// what was looked up. Of what is shared out, chunks get so little for that.
	usualChunk   = 48 * mib
	leastChunk   = mib / 4
	chunkPercent = 7

	// Of remembered profiles and books, about.
	profileSize, profilePercent = 100, 10
	bookSize, bookPercent       = 400, 5
	leastCached                 = 1000
)

// Memory is what there is. The zero value is for no limit.
type Memory struct {
	goal int64 // of the collector; 0: there is no limit
}

// Set finds out how much memory there is, sets the collector's goal, and says what it found. The
// limit is that of the control group, of either version, which a container or a unit has. The goal
// leaves a tenth of it, and at least 16 MiB, for what the collector does not count; but half of it is
// always the collector's. GOMEMLIMIT in the environment takes the place of the goal. Safe to
// repeat.
func Set(log *slog.Logger) Memory {
	if os.Getenv("GOMEMLIMIT") != "" { // which the runtime has read
		return Memory{debug.SetMemoryLimit(-1)}
	}
	limit, err := memlimit.FromCgroup()
	if err != nil {
		if !errors.Is(err, memlimit.ErrNoLimit) {
			log.Debug("the memory limit of the control group is unknown", "error", err)
		}
		debug.SetMemoryLimit(usualGoal)
		return Memory{}
	}
	m := within(limit)
	debug.SetMemoryLimit(m.goal)
	log.Debug("keeping within the memory limit of the control group", "limit_mib", limit/mib, "goal_mib", m.goal/mib)
	return m
}

// within is what there is under a limit of so many bytes.
func within(limit uint64) Memory {
	total := int64(min(limit, 1<<50))
	return Memory{max(total/2, total-max(total/10, outside))}
}

// Chunk is how many bytes the chunk in flight and the one that is read meanwhile may hold together,
// of each of so many sources.
func (m Memory) Chunk(sources int) int {
	if m.goal == 0 {
		return usualChunk
	}
	return int(min(usualChunk, max(leastChunk, m.share(chunkPercent)/int64(sources))))
}

// Profiles is how many profiles may be remembered, if most is wanted.
func (m Memory) Profiles(most int) int { return m.cached(most, profilePercent, profileSize) }

// Books is how many books may be remembered, if most is wanted.
func (m Memory) Books(most int) int { return m.cached(most, bookPercent, bookSize) }

func (m Memory) cached(most int, percent, size int64) int {
	if m.goal == 0 {
		return most
	}
	return int(min(int64(most), max(leastCached, m.share(percent)/size)))
}

// share is so much of what is left when the idle program has its part.
func (m Memory) share(percent int64) int64 { return max(0, m.goal-idle) / 100 * percent }
