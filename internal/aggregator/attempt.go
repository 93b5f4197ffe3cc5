package aggregator

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"aggregator/internal/apply"
	"aggregator/internal/crash"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/postgres"
)

// attempt reads and processes chunks from the checkpoint on, until ctx ends, the mode says so, or something
// fails. All that it knows ends with it.
func (p *partition) attempt(ctx, work context.Context, m mode) error {
	p.applier.Begin()
	checkpoint, err := p.begin(work)
	if err != nil {
		return err
	}
	p.attemptBegan()
	defer p.attemptEnded()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	to := newExchange()
	failed := make(chan error, 1)
	unsettled := 0 // entries taken from the budget by the reader, until it ends
	go func() {
		defer close(to.chunks)
		taken, err := p.reader(p.source, m).read(reading, checkpoint.Position, to)
		unsettled = taken
		failed <- err
	}()

	p.untrimmed = untrimmed{since: time.Now()}
	processed, processErr := p.processAll(work, checkpoint, to)
	stopReading()
	for range to.chunks { // until the reader has ended
	}
	readErr := <-failed
	m.budget.giveBack(unsettled - processed)
	switch {
	case processErr != nil:
		return processErr // the reader was stopped for it
	case ctx.Err() == nil && readErr != nil: // what it says when it was told to stop is of no interest
		return readErr
	case p.untrimmed.entries == 0:
		return nil
	}
	if err := p.trim(work, p.untrimmed.to); ctx.Err() == nil {
		return err
	}
	return nil // all is processed; the next attempt trims
}

// untrimmed is what was processed since the last trim of an attempt. Small chunks share a trim, which costs two
// round trips to Redis (decision 17).
type untrimmed struct {
	to      ledger.Checkpoint
	entries int
	since   time.Time // of the last trim
}

const (
	mostUntrimmed = 100                    // entries
	untrimmedFor  = 500 * time.Millisecond // at most
)

// due says whether it is time to trim.
func (u untrimmed) due() bool {
	return u.entries >= mostUntrimmed || time.Since(u.since) >= untrimmedFor
}

// processAll processes chunks as they come, until there are no more, and returns how many entries they had. The
// last of them may be untrimmed then. While nothing comes it trims what may be trimmed since: retained entries
// grow old, and other groups move on.
func (p *partition) processAll(ctx context.Context, checkpoint ledger.Checkpoint, from exchange) (
	processed int, err error,
) {
	again := time.NewTimer(p.options.TrimEvery)
	defer again.Stop()
	for {
		select {
		case batch, more := <-from.chunks:
			if !more {
				return processed, nil
			}
			crash.At("after_read")
			before := checkpoint.Position
			checkpoint, err = p.process(ctx, checkpoint, batch)
			if checkpoint.Position != before { // also if the trim after it failed
				processed += batch.Entries
			}
			if err != nil {
				return processed, err
			}
			p.chunkDone()
			from.free <- time.Now()
			if p.untrimmed.entries > 0 {
				again.Reset(untrimmedFor - time.Since(p.untrimmed.since))
			}
		case <-again.C:
			if !checkpoint.Position.IsZero() { // else there may be no stream yet
				if err := p.trim(ctx, checkpoint); err != nil {
					return processed, err
				}
			}
			again.Reset(p.options.TrimEvery)
		}
	}
}

// start is the checkpoint of a source, or where it would be made.
func (a *Aggregator) start(ctx context.Context, source *events.Source) (ledger.Checkpoint, error) {
	checkpoint, err := ledger.Load(ctx, a.pool, source.Name())
	if !errors.Is(err, ledger.ErrNoCheckpoint) {
		return checkpoint, err
	}
	state, err := source.Inspect(ctx)
	if err != nil {
		return ledger.Checkpoint{}, err
	}
	position, entries := state.Begin()
	if !position.IsZero() {
		// What Redis says of the group that we take over need not be true. From here on, every entry is to
		// be accounted for.
		census, err := source.Census(ctx, position, entries)
		if err != nil {
			return ledger.Checkpoint{}, err
		}
		entries = census.Added - census.Left
	}
	return ledger.Checkpoint{Source: source.Name(), Position: position, Base: entries, Entries: entries}, nil
}

// begin makes sure that there is a checkpoint, that the ids of the stream are not before it, and that the
// entries up to the checkpoint are trimmed.
func (p *partition) begin(ctx context.Context) (ledger.Checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	if err := p.fits(ctx); err != nil {
		return ledger.Checkpoint{}, err
	}
	// Redis is read first. An attempt that inspects it before a reset has made its fence may read the old
	// checkpoint, but cannot trim to it. An attempt that inspects it afterwards reads the new checkpoint.
	state, err := p.source.Inspect(ctx)
	if err != nil {
		return ledger.Checkpoint{}, err
	}
	p.rewrite(ctx)
	p.seen = state.Seen()
	checkpoint, err := p.start(ctx, p.source)
	if err != nil {
		return checkpoint, err
	}
	if err := p.recognise(ctx, state, checkpoint); err != nil {
		return checkpoint, err
	}
	// Before the first trim of an attempt, something that the attempt has written has to be durable.
	if checkpoint.Updated.IsZero() {
		checkpoint, err = ledger.Create(ctx, p.pool, p.source.Name(), checkpoint.Position, checkpoint.Entries)
	} else {
		checkpoint, err = ledger.Confirm(ctx, p.pool, p.source.Name())
	}
	if err != nil {
		return checkpoint, err
	}
	if err := apply.Probe(ctx, p.pool, p.source.Name(), p.options.Journal); err != nil {
		return checkpoint, err
	}
	if err := p.applier.Resolve(ctx, checkpoint); err != nil {
		return checkpoint, err
	}
	if checkpoint.Position.After(state.Last) { // or another instance has moved it since
		if state, err = p.source.Inspect(ctx); err != nil {
			return checkpoint, err
		}
	}
	if checkpoint.Position.After(state.Last) {
		raised, err := p.source.Raise(ctx, checkpoint.Position, checkpoint.Entries)
		if err != nil {
			return checkpoint, err
		}
		log := p.log.With("stream_at", state.Last, "checkpoint", checkpoint.Position, "entries_passed_over",
			raised.Before)
		if raised.Kept != "" {
			log.Error("the stream was recreated with ids before the checkpoint; raised its last id, and copied its entries to "+
				"another stream (kept_in): drain that one if they are to count", "kept_in", raised.Kept)
		} else {
			log.Error("the last id of the stream was before the checkpoint: the stream was deleted, or Redis was rolled back; " +
				"raised its last id")
		}
	} else if !state.Exists {
		return checkpoint, nil // nothing was ever pushed
	}
	return checkpoint, p.trim(ctx, checkpoint)
}

func (p *partition) trim(ctx context.Context, checkpoint ledger.Checkpoint) error {
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	began := time.Now()
	trimmed, err := p.source.Trim(ctx, checkpoint.Position, checkpoint.Entries, p.options.Retain, p.seen)
	if err != nil {
		return err
	}
	if trimmed.WentBack {
		return errWentBack
	}
	p.seen.Bookmark = checkpoint.Position
	p.count.trimmed.Add(trimmed.Entries)
	now := time.Now()
	if p.untrimmed.entries > 0 { // else it was only to look whether more may be trimmed
		p.spans.spent(PhaseTrim, now.Sub(began), now)
	}
	p.untrimmed = untrimmed{since: now}
	return nil
}

// process applies one chunk, moves the checkpoint over it, and trims if a trim is due.
func (p *partition) process(ctx context.Context, from ledger.Checkpoint, batch *events.Batch) (
	ledger.Checkpoint, error,
) {
	began := time.Now()
	watch := stopwatch{p.spans, began}
	report := Chunk{Entries: batch.Entries, Samples: sample(batch.Events)} // the events are in order only now
	report.Took.Read = batch.Took
	p.progressed()
	p.dropInFlight()
	defer p.dropInFlight()

	chunk, err := p.lookUp(ctx, from, batch)
	if err != nil {
		return from, p.smaller(batch.Entries, err)
	}
	report.Profiles = chunk.Profiles()
	report.Took.LookUp = watch.lap(PhaseLookUp)
	p.progressed()
	expected := chunk.Census()
	if err := p.dead.check(expected); err != nil {
		return from, err
	}
	if err := chunk.Apply(ctx, &expected, p.dead.check); err != nil {
		chunk.Failed(false)
		return from, p.smaller(batch.Entries, err)
	}
	report.Took.Apply = watch.lap(PhaseApply)
	p.progressed()
	crash.At("before_checkpoint")
	bounded, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	checkpoint, err := ledger.MoveCheckpoint(bounded, p.pool, chunk.Advance())
	if err != nil {
		var answered *pgconn.PgError
		chunk.Failed(!errors.Is(err, ledger.ErrRefused) && !errors.As(err, &answered))
		return from, p.smaller(batch.Entries, err)
	}
	p.larger()
	crash.At("after_checkpoint")
	report.Took.Checkpoint = watch.lap(PhaseCheckpoint)
	report.At = watch.since
	defer func() { p.observe(report) }()

	done := chunk.Committed()
	done.Dead += len(batch.Rejected)
	skipped := int64(batch.Entries - chunk.Counted() - done.Applied - done.Dead)
	chunk.Done()
	p.dead.processed(expected)
	p.report(done)
	p.count.read.Add(skipped)
	p.count.skipped.Add(skipped)
	p.count.chunks.Add(1)
	p.log.Debug("processed a chunk", "entries", batch.Entries, "profiles", chunk.Profiles(), "applied", done.Applied,
		"dead", done.Dead,
		"skipped", skipped, "checkpoint", checkpoint.Position, "took", time.Since(began).Round(time.Millisecond))

	p.untrimmed.to, p.untrimmed.entries = checkpoint, p.untrimmed.entries+batch.Entries
	if !p.untrimmed.due() {
		return checkpoint, nil
	}
	crash.At("before_trim")
	if err := p.trim(ctx, checkpoint); err != nil {
		return checkpoint, err
	}
	report.Took.Trim = time.Since(watch.since)
	crash.At("after_trim")
	return checkpoint, nil
}

// report adds to the report what is read and processed.
func (p *partition) report(t apply.Tally) {
	p.count.read.Add(int64(t.Applied + t.Dead))
	p.count.applied.Add(int64(t.Applied))
	p.count.dead.Add(int64(t.Dead))
	p.count.profiles.Add(int64(t.Updated))
}

// smaller makes the next chunks smaller if so many entries could not be read, or applied, because of a
// time-out. What takes too long as a whole may be done in parts.
func (p *partition) smaller(entries int, err error) error {
	if timedOut(err) {
		p.limit.Store(int64(max(1, entries/2)))
	}
	return err
}

// larger lets the next chunk have twice as many entries, if a time-out has made chunks smaller.
func (p *partition) larger() {
	if limit := p.limit.Load(); limit > 0 {
		if limit *= 2; limit >= int64(p.options.ChunkMaxEvents) {
			limit = 0
		}
		p.limit.Store(limit)
	}
}

// lookUp finds out what of a chunk is due and all that is needed to apply it, and whether this program still
// works with the schema.
func (p *partition) lookUp(ctx context.Context, from ledger.Checkpoint, batch *events.Batch) (
	chunk *apply.Chunk, err error,
) {
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	var questions pgx.Batch
	same := postgres.QueueCheck(&questions)
	chunk, err = p.applier.LookUp(ctx, from, batch, &questions)
	var refusal *pgconn.PgError
	if !*same && (err == nil || errors.As(err, &refusal)) { // which may be because of it
		err = cmp.Or(p.fits(ctx), err)
	}
	return chunk, err
}

// resolveLast counts what the last attempt has done; it does not wait for a server that does not answer.
func (p *partition) resolveLast(ctx context.Context) {
	if !p.applier.Uncertain() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	checkpoint, err := ledger.Load(ctx, p.pool, p.source.Name())
	if err == nil {
		err = p.applier.Resolve(ctx, checkpoint)
	}
	if err != nil {
		p.log.Debug("the report leaves out what the last chunk may have applied", "error", err)
	}
}
