// Package oracle says what a database must hold after a push, and whether it does. It
// works from the workload and the catalogue alone, after the domain rules, and shares no
// code with the aggregator: what both get wrong in the same way would have to be thought
// of twice.
package oracle

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	seeding "aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/tables"
)

// Options say what the database began with and what events are worth.
type Options struct {
	Weights
	Tables    tables.Kind
	Preferred Preferred
	// Seeded tells which score rows, all of 0, were there at first; nil when that is not
	// known: then a row of 0 may be there or not where no event touched it.
	Seeded *seeding.Shape
}

// Report is the outcome of a verification. Lost and doubled are events.
type Report struct {
	Pushed          int64      `json:"pushed"`          // acknowledged
	PushedUnknown   int64      `json:"unknown_outcome"` // pushed, never acknowledged: each may count once or not at all
	Applied         int64      `json:"applied"`
	ExpectedApplied int64      `json:"expected_applied"`
	Dead            int64      `json:"dead"`
	ExpectedDead    int64      `json:"expected_dead"` // at least
	Lost            int64      `json:"lost"`
	Doubled         int64      `json:"doubled"`
	ProfilesTouched int64      `json:"profiles_touched"`
	HistoryRows     int64      `json:"history_rows"`
	RowsCompared    int64      `json:"rows_compared"`
	Mismatches      int64      `json:"mismatches"`
	First           []Mismatch `json:"first_mismatches,omitempty"` // at most ten
	Leftovers       []Leftover `json:"left_in_redis,omitempty"`
}

// Mismatch is a difference between what the database must hold and what it does.
type Mismatch struct {
	Profile  int64  `json:"profile,omitempty"` // 0: of no profile
	Table    string `json:"table"`
	Expected string `json:"expected"`
	Found    string `json:"found"`
}

// OK is true when there is no difference of any kind.
func (r Report) OK() bool {
	return r.Lost == 0 && r.Doubled == 0 && r.Mismatches == 0 && len(r.Leftovers) == 0
}

// verification is one under way.
type verification struct {
	Options
	*expected
	catalogue *catalogue
	found     *found
	report    Report
}

// Verify compares every row with what the pushes must have led to. It reads one snapshot
// of the database and writes nothing. Differences are in the report, not in the error.
func Verify(ctx context.Context, db *pgx.Conn, runs []*journal.Run, o Options) (Report, error) {
	v := &verification{Options: o}
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, db, snapshot, func(tx pgx.Tx) error { return v.read(ctx, tx) })
	if err != nil {
		return Report{}, err
	}
	return v.compare(runs)
}

func (v *verification) read(ctx context.Context, tx pgx.Tx) (err error) {
	if v.catalogue, err = readCatalogue(ctx, tx, v.Tables); err != nil {
		return err
	}
	v.found, err = readFound(ctx, tx, v.Tables, v.catalogue)
	return err
}

func (v *verification) compare(runs []*journal.Run) (Report, error) {
	v.expected = newExpected(v.catalogue)
	for number, run := range runs {
		if err := v.addRun(number, run, v.catalogue, v.Weights); err != nil {
			return Report{}, fmt.Errorf("push %d: %w", number+1, err)
		}
	}
	v.settle()
	v.report.Pushed, v.report.PushedUnknown, v.report.HistoryRows = v.pushed, v.pushedUnknown, v.found.historyRows
	v.compareProfiles()
	v.compareLetters()
	return v.report, nil
}

const shown = 10

// mismatch keeps a difference, under the name that the table has in this database.
func (v *verification) mismatch(m Mismatch) {
	m.Table = v.Tables.Name(m.Table)
	v.report.Mismatches++
	if len(v.report.First) < shown {
		v.report.First = append(v.report.First, m)
	}
}
