package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"aggregator/internal/testenv"
	"aggregator/scripts/bench/baseline"
	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/rig"
	"aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/oracle"
	"aggregator/scripts/loadgen/workload"
)

// plan says how much is measured.
type plan struct {
	runs                      int           // of each contender
	events, many, old         int64         // of A and the ladders; of C and D; of the old job
	backlogs                  []int64       // lengths of a backlog
	chunks, workers, together []int         // values of settings
	offer                     time.Duration // for how long a service is offered a load, or none
	few, lots                 int64         // profiles: instructions are those of lots less those of few
}

// full took 40 minutes on an idle machine of two cores.
var full = plan{
	runs: 5, events: 100_000, many: 1_000_000, old: 2_000,
	backlogs: []int64{10_000, 100_000, 1_000_000, 2_000_000, 4_000_000},
	chunks:   []int{1_000, 10_000, 100_000}, workers: []int{1, 2, 4, 8}, together: []int{1, 10, 50, 200, 1_000},
	offer: 6 * time.Second, few: 50, lots: 250,
}

// small takes some minutes: a look, not a measurement.
var small = plan{
	runs: 1, events: 50_000, many: 100_000, old: 500, backlogs: []int64{10_000, 100_000},
	chunks: []int{10_000, 50_000}, workers: []int{1, 4}, together: []int{1, 200},
	offer: 2 * time.Second, few: 20, lots: 60,
}

// part is something to measure.
type part struct {
	name, about string
	run         func(*bench, context.Context) error
}

var parts = []part{
	{"A", "events over a tenth as many profiles, beside pure SQL and pgbench", (*bench).partA},
	{"B", "real ratings, beside pure SQL (needs -replay)", (*bench).partB},
	drains("C", "ten times the events over ten times the profiles, Zipf", func(p plan) []input {
		larger, smaller := ofProfiles(p.many, p.many/10), ofProfiles(p.many/10, p.many/100)
		larger.ProfileDist, smaller.ProfileDist = workload.Zipf, workload.Zipf
		return []input{{report.Larger, larger, nil}, {report.Smaller, smaller, nil}}
	}),
	drains("D", "one profile", func(p plan) []input {
		return []input{{report.ByDefault, ofProfiles(p.many, 1), nil}}
	}),
	{"old", "the queries of the job that the aggregator replaces", (*bench).partOld},
	{"service", "capacity of a service with one event a profile, latency at half of it, idling", (*bench).partService},
	{"instructions", "what a transaction costs PostgreSQL (needs valgrind)", (*bench).partInstructions},
	ladder("chunk", "A by the size of a chunk", chunkSize, func(p plan) []int { return p.chunks }),
	ladder("workers", "A by the number of workers", workers, func(p plan) []int { return p.workers }),
	ladder("together", "A by profiles in a transaction", grouping, func(p plan) []int { return p.together }),
	{"tables", "A on tables of applications", (*bench).partTables},
	drains("backlog", "lengths of the backlog, of the profiles of A", func(p plan) (inputs []input) {
		for _, count := range p.backlogs {
			inputs = append(inputs, input{report.Exact(float64(count)), ofProfiles(count, p.events/10), nil})
		}
		return inputs
	}),
	{"micro", "Go benchmarks of the daemon's own work (needs -micro)", (*bench).partMicro},
}

// Settings of the aggregator, as variables.
const (
	chunkSize = "AGGREGATOR_CHUNK_MAX_EVENTS="
	workers   = "AGGREGATOR_APPLY_WORKERS="
	keep      = "AGGREGATOR_JOURNAL_KEEP="
	grouping  = "AGGREGATOR_APPLY_PROFILES_PER_TRANSACTION="
)

// input is what a drain is given: its name, the events, and settings that differ from the defaults.
type input struct {
	name string
	workload.Settings
	variables []string
}

// ofProfiles are so many events over so many profiles.
func ofProfiles(events, profiles int64) workload.Settings {
	s := workload.Defaults()
	s.Count, s.Profiles = events, max(profiles, 1)
	return s
}

// catalogueFor has the profiles and books of the events.
func catalogueFor(s workload.Settings) catalogue.Shape {
	shape := catalogue.Default()
	shape.Profiles, shape.Books = s.Profiles, s.Books
	return shape
}

// drains is a part that drains some inputs, and verifies each.
func drains(name, about string, inputs func(plan) []input) part {
	return part{name, about, func(b *bench, ctx context.Context) error {
		var contenders []contender
		states := map[workload.Settings]rig.State{}
		for _, l := range inputs(b.plan) {
			from, made := states[l.Settings]
			if !made {
				var err error
				if from, err = b.servers.Prepare(ctx, catalogueFor(l.Settings), l.Settings); err != nil {
					return err
				}
				states[l.Settings] = from
			}
			c := b.drain(l.name, from, l.variables...)
			c.check = verified(l.Settings)
			contenders = append(contenders, c)
		}
		return b.compare(ctx, name, contenders...)
	}}
}

// ladder is a part that drains A with each value of a setting.
func ladder(name, about, setting string, values func(plan) []int) part {
	return drains(name, about, func(p plan) (inputs []input) {
		for _, value := range values(p) {
			name, variable := report.Exact(float64(value)), setting+fmt.Sprint(value)
			inputs = append(inputs, input{name, ofProfiles(p.events, p.events/10), []string{variable}})
		}
		return inputs
	})
}

// drain is a contender: the real daemon, with settings that differ from the defaults.
func (b *bench) drain(name string, from rig.State, settings ...string) contender {
	return contender{name: name, from: from, run: func(ctx context.Context, url string) (rig.Figures, error) {
		var ended rig.Ended
		f, err := b.servers.Measure(ctx, 0, func() (err error) {
			ended, err = b.servers.Run(ctx, url, settings, "drain", "-o", "json")
			return err
		})
		if err != nil {
			return nil, err
		}
		var reported struct {
			Applied, Profiles int64
			Sources           []any // with the phases of each
		}
		if err := json.Unmarshal(ended.Stdout, &reported); err != nil {
			return nil, fmt.Errorf("the report of aggregator drain: %w\n%s", err, ended.Stdout)
		}
		if reported.Applied != from.Events {
			return nil, fmt.Errorf("%d of %d events were applied", reported.Applied, from.Events)
		}
		f["seconds"], f["peak_mib"] = ended.Took.Seconds(), float64(ended.Peak)/(1<<20)
		f["transactions"], f["gc_percent"] = float64(reported.Profiles), 100*ended.Garbage.Seconds()/f["cpu_daemon"]
		if len(reported.Sources) > 0 {
			report.AddPhases(f, reported.Sources[0])
		}
		return f, nil
	}}
}

// partTables drains the events of A into our tables and those of applications. That they end up right the fault suite
// has shown (TestShapes).
func (b *bench) partTables(ctx context.Context) error {
	settings := ofProfiles(b.events, b.events/10)
	own, err := b.servers.Prepare(ctx, catalogueFor(settings), settings)
	if err != nil {
		return err
	}
	contenders := []contender{b.drain("our tables", own)}
	contenders[0].check = verified(settings)
	for _, of := range append([]string{rig.OriginTables}, testenv.Shapes...) {
		from, err := b.servers.PrepareTables(ctx, of, catalogueFor(settings), settings)
		if err != nil {
			return err
		}
		var variables []string
		if of == "inline" { // a copy of a database has not its settings
			variables = []string{"AGGREGATOR_POSTGRES_SCHEMA=app", "AGGREGATOR_POSTGRES_TIME_ZONE=Asia/Seoul"}
		}
		contenders = append(contenders, b.drain(of, from, variables...))
	}
	return b.compare(ctx, "tables", contenders...)
}

func (b *bench) partA(ctx context.Context) error {
	tpcb, err := b.tpcb(ctx)
	if err != nil {
		return err
	}
	return b.besideSQL(ctx, "A", ofProfiles(b.events, b.events/10), tpcb)
}

func (b *bench) partB(ctx context.Context) error {
	if b.replay == "" {
		b.log("  left out: no file of ratings is given")
		return nil
	}
	ratings, err := workload.ReadRatings(b.replay)
	if err != nil {
		return err
	}
	s := workload.Defaults()
	s.Profiles, s.Books, s.Replay = ratings.Profiles, ratings.Books, b.replay
	return b.besideSQL(ctx, "B", s)
}

// besideSQL compares the daemon, by default, grouping by itself where it knows how to, and in groups of 200, with
// pure SQL. The states that they end in must be the same, and what an independent sum of the events says.
func (b *bench) besideSQL(ctx context.Context, name string, s workload.Settings, others ...contender) error {
	from, err := b.servers.Prepare(ctx, catalogueFor(s), s)
	if err != nil {
		return err
	}
	events, err := workload.Open(s)
	if err != nil {
		return err
	}
	rows := baseline.Rows(events)
	sql := contender{name: report.PureSQL, from: from, run: func(ctx context.Context, url string) (rig.Figures, error) {
		return b.servers.Measure(ctx, 0, func() error { return baseline.PureSQL(ctx, url, rows) })
	}}
	contenders := []contender{b.drain(report.ByDefault, from), b.drain(report.Together, from, grouping+"200"), sql}
	if b.servers.Knows(ctx, grouping+"auto") {
		contenders = slices.Insert(contenders, 1, b.drain(report.Auto, from, grouping+"auto"))
	}
	right, want := verified(s), ""
	for i := range contenders {
		contenders[i].check = func(ctx context.Context, url string) error {
			if i == 0 {
				if err := right(ctx, url); err != nil {
					return err
				}
			}
			state, err := baseline.State(ctx, url)
			if want = cmp.Or(want, state); err == nil && state != want {
				err = errors.New("scores, latest history or favorites are not those of the contender before")
			}
			return err
		}
	}
	return b.compare(ctx, name, append(contenders, others...)...)
}

// bindir asks for the folder of PostgreSQL's programs.
const bindir = `SELECT setting FROM pg_config WHERE name = 'BINDIR'`

// tpcb is a contender: pgbench's own transactions, as many as A has profiles, with commits that do not wait for
// the disk either. It says what transactions cost on this machine.
func (b *bench) tpcb(ctx context.Context) (contender, error) {
	folder, err := b.servers.Ask(ctx, bindir)
	if err != nil {
		return contender{}, err
	}
	pgbench := func(ctx context.Context, args ...string) error {
		cmd := exec.CommandContext(ctx, filepath.Join(folder, "pgbench"), args...)
		cmd.Env = append(cmd.Environ(), "PGOPTIONS=-c synchronous_commit=off")
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("pgbench: %w\n%s", err, said)
		}
		return nil
	}
	from, err := b.servers.Create(ctx, func(ctx context.Context, db *pgx.Conn) error {
		return pgbench(ctx, "-i", "-q", "-s", fmt.Sprint(max(b.events/10_000, 1)), db.Config().ConnString())
	})
	const clients = 4
	each := max(b.events/10/clients, 1)
	return contender{name: report.TPCB, from: from, run: func(ctx context.Context, url string) (rig.Figures, error) {
		f, err := b.servers.Measure(ctx, 0, func() error {
			return pgbench(ctx, "-M", "prepared", "-n", "-c", fmt.Sprint(clients), "-t", fmt.Sprint(each), url)
		})
		if err == nil {
			f["transactions"] = float64(clients * each)
		}
		return f, err
	}}, err
}

// verified is a check that compares every row with an independent sum of the events.
func verified(s workload.Settings) func(context.Context, string) error {
	return func(ctx context.Context, url string) error {
		db, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer db.Close(ctx)
		shape := catalogueFor(s)
		options := oracle.Options{Weights: oracle.Weights{Like: 2, Dislike: -2}, Seeded: &shape}
		verdict, err := oracle.Verify(ctx, db, []*journal.Run{journal.Complete(s)}, options)
		if err == nil && !verdict.OK() {
			err = fmt.Errorf("wrong: %d lost, %d doubled, %d mismatches, the first %v",
				verdict.Lost, verdict.Doubled, verdict.Mismatches, verdict.First)
		}
		return err
	}
}

// partOld compares with the old job, which is given only so many of the events of A.
func (b *bench) partOld(ctx context.Context) error {
	s := ofProfiles(b.events, b.events/10)
	from, err := b.servers.Prepare(ctx, catalogueFor(s), s)
	if err != nil {
		return err
	}
	s.Count, s.Kind = b.old, workload.List
	list, err := b.servers.Prepare(ctx, catalogueFor(s), s)
	if err != nil {
		return err
	}
	old := contender{name: report.OldJob, from: list, run: func(ctx context.Context, url string) (rig.Figures, error) {
		return b.servers.Measure(ctx, 0, func() error {
			return baseline.OldJob(ctx, b.servers.Client, s.Keys()[0], url)
		})
	}}
	return b.compare(ctx, "old", old, b.drain(report.ByDefault, from))
}
