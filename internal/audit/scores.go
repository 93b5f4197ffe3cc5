package audit

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
	"aggregator/internal/scores"
)

// ScoresReport is what a comparison of scores with the history has found, in profiles.
type ScoresReport struct {
	Profiles  int64 `json:"profiles"`  // how many there are
	Compared  int64 `json:"compared"`  // of them, those whose latest row of history, if any, was written by a drain
	Different int64 `json:"different"` // of the compared, those that differ
	Unsettled int64 `json:"unsettled"` // not compared: each time they were read they had changed

	First []ScoresDifference `json:"first"` // of those that differ, by profile; not nil
}

// A ScoresDifference is a profile whose scores and latest row of history do not fit together.
type ScoresDifference struct {
	ProfileID int64    `json:"profile_id"`
	HistoryID *int64   `json:"history_id"` // of the latest row; nil if there is none
	What      []string `json:"differences"`
}

const (
	scoresBatch  = 500                    // profiles read by a statement
	shownAtMost  = 10                     // differences kept for the report
	scoresReads  = 10                     // of a profile that differs, until it has stayed the same
	betweenReads = 100 * time.Millisecond // long enough for a transaction on a profile
)

// Scores compares the scores of all profiles with their latest rows of history: the eight scores, the
// type that follows from them, and the favorites that follow, by the rule, from the scores of genres and topics. A
// profile with events applied must have a row of the kind FEEDBACK; a profile without any, and one whose latest row the
// application has written, is counted and not compared. A row that the application has deleted softly
// counts until a purge has removed it; from then on the profile differs until its next event.
//
// It may be used at any time, beside drains and the application. It reads 500 profiles at a time, and a
// profile that differs again until two reads in a row are the same. progress, if it is not nil, is called
// after each batch with how many profiles are done. It changes nothing and is safe to repeat; errors are
// those of PostgreSQL and of ctx, which ends it between any two statements.
func Scores(
	ctx context.Context, pool *pgxpool.Pool, rule scores.Preference, progress func(done int64),
) (ScoresReport, error) {
	report := ScoresReport{First: []ScoresDifference{}}
	c := comparison{pool: pool, rule: rule}
	var err error
	if c.types, err = knownTypes(ctx, pool); err != nil {
		return report, err
	}
	if c.statement, err = standingsStatement(ctx, pool); err != nil {
		return report, err
	}
	for last := int64(math.MinInt64); ; {
		// its error is also that of the rows
		rows, _ := pool.Query(ctx, `SELECT id FROM child_profile WHERE id > $1::bigint ORDER BY id LIMIT $2`, last,
			scoresBatch)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return report, fmt.Errorf("reading profiles: %w", err)
		}
		if len(ids) == 0 {
			return report, nil
		}
		last = ids[len(ids)-1]
		if err := report.compare(ctx, c, ids); err != nil {
			return report, err
		}
		if progress != nil {
			progress(report.Profiles)
		}
	}
}

// comparison is how scores are compared.
type comparison struct {
	pool      *pgxpool.Pool
	rule      scores.Preference
	types     map[string]bool // those that there are
	statement string          // scores.sql
}

// compare adds a batch to the report.
func (r *ScoresReport) compare(ctx context.Context, c comparison, ids []int64) error {
	standings, err := c.readStandings(ctx, ids)
	if err != nil {
		return err
	}
	before := map[int64]standing{}
	for _, s := range standings {
		r.Profiles++
		switch {
		case !s.ours():
		case len(c.differences(s)) == 0:
			r.Compared++
		default:
			before[s.profile] = s
		}
	}
	var found []ScoresDifference
	for read := 1; len(before) > 0 && read < scoresReads; read++ {
		if err := pause(ctx, betweenReads); err != nil {
			return err
		}
		ids = ids[:0]
		for id := range before {
			ids = append(ids, id)
		}
		if standings, err = c.readStandings(ctx, ids); err != nil {
			return err
		}
		again := map[int64]standing{} // without those that were deleted meanwhile
		for _, s := range standings {
			what := c.differences(s)
			switch {
			case !s.ours():
			case len(what) == 0:
				r.Compared++
			case s.same(before[s.profile]):
				r.Compared++
				found = append(found, ScoresDifference{s.profile, s.history, what})
			default:
				again[s.profile] = s
			}
		}
		before = again
	}
	r.Different += int64(len(found))
	r.Unsettled += int64(len(before))
	slices.SortFunc(found, func(a, b ScoresDifference) int { return cmp.Compare(a.ProfileID, b.ProfileID) })
	r.First = append(r.First, found[:min(len(found), shownAtMost-len(r.First))]...)
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// standing is a row of scores.sql.
type standing struct {
	profile  int64
	applied  bool
	history  *int64
	kind     *string
	feedback bool
	mbti     *string
	then     []*float64
	now      []*float64
	asHeld   []*float64 // now, as the history would hold it
	genres   preference
	topics   preference
}

// preference is what a profile scores for genres or topics, without scores below zero, and its favorites.
type preference struct {
	ids       []int64
	scores    []float64
	favorites []int64
}

//go:embed scores_citus.sql
var standingsOnCitus string

//go:embed scores.sql
var standingsSQL string

// standingsStatement is scores.sql for the columns as they are. A history whose columns are whole numbers, or
// real, does not hold each score exactly, and still holds what was written.
func standingsStatement(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	columns := make([]string, scores.NumLetters)
	for i := range columns {
		columns[i] = strings.ToLower(scores.LetterName(i)) + "_score"
	}
	// Its error is also that of the rows.
	rows, _ := pool.Query(ctx, `SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass('child_personality_history') AND attname = ANY ($1::text[])`, columns)
	types := map[string]string{}
	var column, of string
	_, err := pgx.ForEachRow(rows, []any{&column, &of}, func() error {
		types[column] = of
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("reading the types of the history's columns: %w", err)
	}
	held := make([]string, len(columns))
	for i, name := range columns {
		held[i] = "c." + name + "::float8::" + cmp.Or(types[name], "float8") + "::float8"
	}
	statement := standingsSQL
	if postgres.OnCitus(pool.Config().ConnConfig) {
		statement = standingsOnCitus
	}
	return strings.Replace(statement, "ARRAY[{as_held}]", "ARRAY["+strings.Join(held, ", ")+"]", 1), nil
}

func (c comparison) readStandings(ctx context.Context, ids []int64) ([]standing, error) {
	rows, _ := c.pool.Query(ctx, c.statement, ids) // its error is also that of the rows
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s standing, err error) {
		err = row.Scan(&s.profile, &s.applied, &s.history, &s.kind, &s.feedback, &s.mbti, &s.then, &s.now, &s.asHeld,
			&s.genres.ids, &s.genres.scores, &s.genres.favorites, &s.topics.ids, &s.topics.scores, &s.topics.favorites)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading scores and history: %w", err)
	}
	return all, nil
}

// knownTypes are those in the table mbti: a row of history has no type if its own is not there.
func knownTypes(ctx context.Context, pool *pgxpool.Pool) (map[string]bool, error) {
	// its error is also that of the rows
	rows, _ := pool.Query(ctx, `SELECT upper(btrim(mbti::text)) FROM mbti WHERE mbti IS NOT NULL`)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("reading the MBTI types: %w", err)
	}
	known := map[string]bool{}
	for _, name := range names {
		known[name] = true
	}
	return known, nil
}

// ours says whether the profile is as a drain has left it: what the application diagnoses belongs
// to the application.
func (s standing) ours() bool {
	if s.kind != nil && *s.kind == feedback {
		return true
	}
	return s.applied && !s.feedback
}

const feedback = "FEEDBACK" // the kind of the rows of history that a drain writes

// same says whether nothing has changed, also if a score is NaN, which equals nothing.
func (s standing) same(other standing) bool {
	for _, each := range []*standing{&s, &other} {
		for _, of := range []*[]*float64{&each.now, &each.asHeld, &each.then} {
			values := letters(*of)
			*of = nil
			for _, v := range values {
				*of = append(*of, &v)
			}
		}
	}
	return reflect.DeepEqual(s, other)
}

// differences says what does not fit together; nothing if all does.
func (c comparison) differences(s standing) (all []string) {
	if !s.feedback {
		return []string{"events are applied to it, and it has no row of history of the kind " + feedback}
	}
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	now, held, then := letters(s.now), letters(s.asHeld), letters(s.then)
	for i := range now {
		if held[i] != then[i] || math.IsInf(now[i], 0) {
			say("the score of %s is %s, and %s in the history", scores.LetterName(i), number(now[i]), number(then[i]))
		}
	}
	found := "none"
	if s.mbti != nil {
		found = *s.mbti
	}
	if want := typeOf(now); found != want && (s.mbti != nil || c.types[want]) {
		say("the type is %s by the scores, and %s in the history", want, found)
	}
	for kind, p := range map[string]preference{"genre": s.genres, "topic": s.topics} {
		missing, extra := p.differences(c.rule)
		for _, id := range missing {
			say("%s %d is preferred by the scores, and no favorite in the history", kind, id)
		}
		for _, id := range extra {
			say("%s %d is a favorite in the history, and not preferred by the scores", kind, id)
		}
	}
	slices.Sort(all)
	return all
}

func letters(of []*float64) (values [scores.NumLetters]float64) {
	for i, score := range of {
		switch {
		case score == nil:
		case math.IsNaN(*score):
			values[i] = math.Inf(1) // which equals itself, and is no finite number either
		default:
			values[i] = *score
		}
	}
	return values
}

// typeOf is the type of a profile with these scores, in the order of scores.Letters.
func typeOf(l [scores.NumLetters]float64) string {
	name := make([]byte, 0, 4)
	for _, pair := range [][2]int{{0, 1}, {3, 2}, {4, 5}, {6, 7}} { // the first of each wins a tie
		letter := pair[0]
		if l[pair[1]] > l[letter] {
			letter = pair[1]
		}
		name = append(name, scores.LetterName(letter)...)
	}
	return string(name)
}

// differences are what should be a favorite and is not, and the other way round.
func (p preference) differences(rule scores.Preference) (missing, extra []int64) {
	n, sum, top, low, whole := 0, 0.0, 0.0, math.Inf(1), true
	for _, score := range p.scores {
		if score == 0 && !rule.AboveMean() {
			continue
		}
		n++
		sum += score
		top, low = max(top, score), min(low, score)
		whole = whole && score == math.Trunc(score)
	}
	mean := sum / float64(n)
	// A sum of fractions depends on the order in which they are added: a score that nearly equals the mean
	// may be on either side of it.
	slack := 0.0
	if !whole {
		slack = mean * 1e-11
	}
	preferred := map[int64]bool{}
	for i, id := range p.ids {
		score := p.scores[i]
		may, must := score > 0 && (score >= mean-slack || score == top), score > 0 && (score >= mean+slack || score == top)
		if rule.AboveMean() {
			may, must = score > mean-slack && score > low, score > mean+slack && score > low
		}
		preferred[id] = may
		if must && !slices.Contains(p.favorites, id) {
			missing = append(missing, id)
		}
	}
	for _, id := range p.favorites {
		if !preferred[id] {
			extra = append(extra, id)
		}
	}
	return missing, slices.Compact(extra)
}

func number(f float64) string {
	if math.IsInf(f, 0) {
		return "not a finite number"
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}
