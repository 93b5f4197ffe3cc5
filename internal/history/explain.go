package history

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
	"aggregator/internal/scores"
)

var (
	// ErrNoHistory says that a profile has no such row of history.
	ErrNoHistory = errors.New("no such row of history")
	// ErrNoJournal says that the journal has nothing of a row of history.
	ErrNoJournal = errors.New("the journal has nothing of it: it was not kept when the row was written " +
		"(journal.keep), was purged since, or the row is not of events")
)

// Explanation says which events made a row of history out of the one before. Its names are those of the JSON form.
type Explanation struct {
	ProfileID   int64     `json:"profile"`
	HistoryID   int64     `json:"history_id"`
	Created     time.Time `json:"created_at"`
	Type        string    `json:"mbti"`
	Before      *int64    `json:"history_id_before"` // null: there is none, and it is compared with scores of zero
	TypeBefore  string    `json:"mbti_before"`
	Source      string    `json:"source"`
	Explained   bool      `json:"explained"`   // nothing is unexplained, and what turned has its event
	Unexplained Scores    `json:"unexplained"` // of the difference between the two rows, what the events did not add
	Events      []Added   `json:"events"`
	Turned      []Turn    `json:"turned"`
}

// Added is an event: its weight was added to the score of the genre, of each of the topics and of each letter.
type Added struct {
	Position string   `json:"position"`
	BookID   int64    `json:"book_id"`
	Title    *string  `json:"title"` // null: there is no such book any more, and what it added is not known
	Weight   float64  `json:"weight"`
	Genre    *string  `json:"genre"` // its name, #7 for one that is gone
	Topics   []string `json:"topics"`
	MBTI     string   `json:"mbti"`         // empty if the book has none
	After    Scores   `json:"scores_after"` // those of the snapshot before, with what the events up to this one added

	book scores.Book
}

// Turn is a letter or a favorite that is another one than before.
type Turn struct {
	Kind     string  `json:"kind"` // dimension, genre or topic
	Name     string  `json:"name"` // such as I/E
	From     string  `json:"from"` // a letter; of a genre or topic: favorite, or empty
	To       string  `json:"to"`
	Position *string `json:"position"` // of the event that did it; null: none of the events
	BookID   *int64  `json:"book_id"`
}

// Favorite is what a Turn is from, or to.
const Favorite = "favorite"

// Explain explains a row of history of a profile: the one of an id or, if that is 0, the latest that is not deleted and
// was created before a time, zero for the latest of all. What events added follows from the catalogue as it is
// now. Sums are compared with a tolerance of a billionth; what a column of a narrower type has rounded is unexplained.
//
// Which event made a favorite follows from the scores as they stand, less what the journal has of later rows.
//
// Errors: ErrNoProfile, ErrNoHistory, ErrNoJournal. Reads only.
func Explain(
	ctx context.Context, pool *pgxpool.Pool, catalogue *scores.Catalogue, rule scores.Preference,
	profileID, historyID int64, before time.Time,
) (Explanation, error) {
	if historyID == 0 {
		latest, err := Timeline(ctx, pool, profileID, Selection{Limit: 1, Before: before})
		if err != nil {
			return Explanation{}, err
		}
		if len(latest) == 0 {
			return Explanation{}, fmt.Errorf("profile %d: %w", profileID, ErrNoHistory)
		}
		historyID = latest[0].ID
	}
	e, err := explain(ctx, pool, catalogue, rule, profileID, historyID)
	if err != nil {
		return e, fmt.Errorf("explaining row %d of profile %d: %w", historyID, profileID, err)
	}
	return e, nil
}

// standing is a row of history, and its favorites by id.
type standing struct {
	id             int64
	created        time.Time
	mbti           string
	scores         [scores.NumLetters]float64
	genres, topics []int64
}

// logged is a row of the journal.
type logged struct {
	source  string
	entries []Entry
}

func explain(ctx context.Context, pool *pgxpool.Pool, catalogue *scores.Catalogue, rule scores.Preference,
	profileID, historyID int64,
) (e Explanation, err error) {
	rows, _ := pool.Query(ctx, standingSQL, profileID, historyID) // its error is also that of the rows
	pair, err := pgx.CollectRows(rows, scanStanding)
	if err != nil {
		return e, err
	}
	if len(pair) == 0 || pair[0].id != historyID {
		return e, ErrNoHistory
	}
	own, err := journalOf(ctx, pool, journalSQL, profileID, historyID)
	if err != nil {
		return e, err
	}
	if len(own) == 0 {
		return e, ErrNoJournal
	}
	after, was := pair[0], standing{mbti: scores.TypeOf([scores.NumLetters]float64{})}
	e = Explanation{
		ProfileID: profileID, HistoryID: historyID, Created: after.created.UTC(), Type: after.mbti,
		Source: own[0].source, Events: []Added{}, Turned: []Turn{},
	}
	if len(pair) == 2 {
		was = pair[1]
		e.Before = &was.id
	}
	e.TypeBefore = was.mbti

	books, err := booksOf(ctx, catalogue, own)
	if err != nil {
		return e, err
	}
	if err := e.add(ctx, pool, own[0].entries, books); err != nil {
		return e, err
	}
	e.compare(was, after)
	names, err := e.favorites(ctx, pool, catalogue, rule, own[0], was, after)
	if err != nil {
		return e, err
	}
	for i, turn := range e.Turned {
		if turn.Kind != dimension {
			e.Turned[i].Name = names[turn.Kind+turn.Name]
		}
	}
	lacking := slices.ContainsFunc(e.Turned, func(t Turn) bool { return t.Position == nil })
	e.Explained = e.Unexplained == (Scores{}) && !lacking
	return e, nil
}

// add adds the events of the row, with what the catalogue says of their books.
func (e *Explanation) add(
	ctx context.Context, pool *pgxpool.Pool, entries []Entry, books map[int64]scores.Book,
) error {
	var ids, genres, topics []int64
	for _, entry := range entries {
		book, found := books[entry.BookID]
		if !found {
			continue
		}
		ids, topics = append(ids, entry.BookID), append(topics, book.Topics...)
		if book.HasGenre {
			genres = append(genres, book.GenreID)
		}
	}
	titles, err := namesOf(ctx, pool, "book", "title", ids)
	if err != nil {
		return err
	}
	genreNames, err := namesOf(ctx, pool, "genre", "name", genres)
	if err != nil {
		return err
	}
	topicNames, err := namesOf(ctx, pool, "topic", "name", topics)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		book, found := books[entry.BookID]
		a := Added{
			Position: entry.Position.String(), BookID: entry.BookID, Weight: entry.Weight, Topics: []string{},
			MBTI: book.Letters.String(), book: book,
		}
		if found {
			a.Title = new(titles[entry.BookID])
		}
		if book.HasGenre {
			a.Genre = new(named(genreNames, book.GenreID))
		}
		for _, id := range book.Topics {
			a.Topics = append(a.Topics, named(topicNames, id))
		}
		e.Events = append(e.Events, a)
	}
	return nil
}

const dimension = "dimension"

// compare says what is unexplained, and which letters turned.
func (e *Explanation) compare(was, after standing) {
	sums := make([][scores.NumLetters]float64, len(e.Events)+1) // before the first event, and after each
	sums[0] = was.scores
	var scale [scores.NumLetters]float64
	for i, a := range e.Events {
		sums[i+1] = sums[i]
		for letter := range sums[i] {
			if a.book.Letters.Has(letter) {
				sums[i+1][letter] += a.Weight
				scale[letter] += math.Abs(a.Weight)
			}
		}
	}
	var rest [scores.NumLetters]float64
	for letter, sum := range sums[len(e.Events)] {
		d := after.scores[letter] - sum
		size := max(scale[letter], math.Abs(after.scores[letter]), math.Abs(was.scores[letter]))
		if !(math.Abs(d) <= 1e-9*size) { // also for NaN
			rest[letter] = d
		}
	}
	for i := range e.Events {
		e.Events[i].After = scoresBy(sums[i+1])
	}
	e.Unexplained = scoresBy(rest)
	if len(was.mbti) != len(scores.Dimensions) || len(after.mbti) != len(scores.Dimensions) {
		return // one of the types is not known
	}
	for i, pair := range scores.Dimensions {
		from, to := was.mbti[i:i+1], after.mbti[i:i+1]
		if from == to {
			continue
		}
		turn := Turn{Kind: dimension, Name: scores.LetterName(pair[0]) + "/" + scores.LetterName(pair[1]), From: from, To: to}
		e.turn(turn, func(n int) bool { return scores.TypeOf(sums[n])[i:i+1] == to })
	}
}

func scoresBy(letters [scores.NumLetters]float64) Scores {
	return Scores{
		I: letters[0], E: letters[1], S: letters[2], N: letters[3], T: letters[4], F: letters[5], J: letters[6],
		P: letters[7],
	}
}

// turn adds a turn. is says whether it has happened after the first n events; the event that did it is the one after
// which it is so to the end.
func (e *Explanation) turn(t Turn, is func(n int) bool) {
	last := len(e.Events)
	for last > 0 && is(last) {
		last--
	}
	if last < len(e.Events) && !is(last) {
		t.Position, t.BookID = &e.Events[last].Position, &e.Events[last].BookID
	}
	e.Turned = append(e.Turned, t)
}

// favorites adds the genres and topics that became a favorite or are none any more, by id, and returns their names.
// Only if there are some does it read the journal of later rows.
func (e *Explanation) favorites(ctx context.Context, pool *pgxpool.Pool, catalogue *scores.Catalogue,
	rule scores.Preference, own logged, was, after standing,
) (map[string]string, error) {
	names := make(map[string]string)
	if slices.Equal(was.genres, after.genres) && slices.Equal(was.topics, after.topics) {
		return names, nil
	}
	later, err := journalOf(ctx, pool, laterJournalSQL, e.ProfileID, e.HistoryID)
	if err != nil {
		return nil, err
	}
	journal := append([]logged{own}, later...)
	books, err := booksOf(ctx, catalogue, journal)
	if err != nil {
		return nil, err
	}
	for _, k := range []struct {
		kind       string
		was, after []int64
		of         func(scores.Delta) []scores.Sum
	}{
		{"genre", was.genres, after.genres, func(d scores.Delta) []scores.Sum { return d.Genres }},
		{"topic", was.topics, after.topics, func(d scores.Delta) []scores.Sum { return d.Topics }},
	} {
		turned := append(without(k.after, k.was), without(k.was, k.after)...)
		if len(turned) == 0 {
			continue
		}
		found, err := namesOf(ctx, pool, k.kind, "name", turned)
		if err != nil {
			return nil, err
		}
		now, err := scoresOf(ctx, pool, k.kind, e.ProfileID)
		if err != nil {
			return nil, err
		}
		for i := len(journal) - 1; i >= 0; i-- { // back to before the row
			for _, s := range k.of(folded(journal[i].entries, books)) {
				now[s.ID] -= s.Value
			}
		}
		states := e.states(rule, own.entries, books, now, k.was, k.of)
		// Where the scores do not lead to the favorites, something else has changed them.
		sound := slices.Equal(states[0], k.was) && slices.Equal(states[len(states)-1], k.after)
		for _, id := range turned {
			name := fmt.Sprint(id)
			names[k.kind+name] = named(found, id)
			t := Turn{Kind: k.kind, Name: name, To: Favorite}
			if slices.Contains(k.was, id) {
				t.From, t.To = Favorite, ""
			}
			e.turn(t, func(n int) bool { return sound && slices.Contains(states[n], id) == (t.To == Favorite) })
		}
	}
	return names, nil
}

// states are the favorites before the first event, and after each. A score of zero counts in one of the rules, and
// one that is not there yet does not: that it was not there shows in what the favorites were.
func (e *Explanation) states(rule scores.Preference, entries []Entry, books map[int64]scores.Book,
	sums map[int64]float64, was []int64, of func(scores.Delta) []scores.Sum,
) [][]int64 {
	favorites := func() []int64 { return rule.Favorites(ordered(sums)) }
	first := favorites()
	if !slices.Equal(first, was) {
		for _, s := range of(folded(entries, books)) {
			if sums[s.ID] == 0 {
				delete(sums, s.ID)
			}
		}
		first = favorites()
	}
	states := [][]int64{first}
	for _, entry := range entries {
		for _, s := range of(folded([]Entry{entry}, books)) {
			sums[s.ID] += s.Value
		}
		states = append(states, favorites())
	}
	return states
}

// folded is what entries add up to.
func folded(entries []Entry, books map[int64]scores.Book) scores.Delta {
	all := make([]events.Event, len(entries))
	for i, entry := range entries {
		all[i] = events.Event{BookID: entry.BookID, Action: &events.Action{Weight: entry.Weight}}
	}
	delta, _ := scores.Fold(0, all, books)
	return delta
}

// without are those of ids that are not among others.
func without(ids, others []int64) []int64 {
	return slices.DeleteFunc(slices.Clone(ids), func(id int64) bool { return slices.Contains(others, id) })
}

// named is the name of an id, or #7 for one that is gone.
func named(names map[int64]string, id int64) string {
	if name, found := names[id]; found {
		return name
	}
	return fmt.Sprintf("#%d", id)
}

// namesOf are the names of the rows that exist, in a column of a table of the catalogue.
func namesOf(ctx context.Context, pool *pgxpool.Pool, table, column string, ids []int64) (map[int64]string, error) {
	rows, _ := pool.Query(ctx, `SELECT id::bigint, coalesce(`+column+`::text, '') FROM `+table+
		` WHERE id = ANY ($1::bigint[])`, ids) // its error is also that of the rows
	names := make(map[int64]string)
	var id int64
	var name string
	_, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		names[id] = name
		return nil
	})
	return names, err
}

// scoresOf are the scores of a profile as they stand, of genres or topics.
func scoresOf(ctx context.Context, pool *pgxpool.Pool, kind string, profileID int64) (map[int64]float64, error) {
	rows, _ := pool.Query(ctx, `SELECT `+kind+`_id::bigint, score::float8 FROM `+kind+
		`_score WHERE child_profile_id = $1::bigint AND score IS NOT NULL`, profileID) // likewise
	sums := make(map[int64]float64)
	var id int64
	var sum float64
	_, err := pgx.ForEachRow(rows, []any{&id, &sum}, func() error {
		sums[id] = sum
		return nil
	})
	return sums, err
}

// A row of history and the one before it, by id. in: $1 profile id; $2 history id.
const standingSQL = `
SELECT h.id::bigint, h.created_at::timestamptz, coalesce(upper(btrim(m.mbti::text)), ''),
    ARRAY[coalesce(h.i_score::float8, 0), coalesce(h.e_score::float8, 0), coalesce(h.s_score::float8, 0),
        coalesce(h.n_score::float8, 0), coalesce(h.t_score::float8, 0), coalesce(h.f_score::float8, 0),
        coalesce(h.j_score::float8, 0), coalesce(h.p_score::float8, 0)],
    array(SELECT genre_id::bigint FROM favorite_genre f
        WHERE f.child_profile_id = h.child_profile_id AND f.history_id = h.id ORDER BY 1),
    array(SELECT topic_id::bigint FROM favorite_topic f
        WHERE f.child_profile_id = h.child_profile_id AND f.history_id = h.id ORDER BY 1)
FROM child_personality_history h LEFT JOIN mbti m ON m.id = h.mbti_id
WHERE h.child_profile_id = $1::bigint AND h.id <= $2::bigint
ORDER BY h.id DESC LIMIT 2`

func scanStanding(row pgx.CollectableRow) (s standing, err error) {
	var eight []float64
	if err = row.Scan(&s.id, &s.created, &s.mbti, &eight, &s.genres, &s.topics); err == nil {
		copy(s.scores[:], eight)
	}
	return s, err
}

// The journal of a row of history, and of those after it. in: as standingSQL.
const (
	journalSQL = `
SELECT source, positions, books, weights, exact_weights FROM aggregator.journal
WHERE child_profile_id = $1::bigint AND history_id = $2::bigint`
	laterJournalSQL = `
SELECT source, positions, books, weights, exact_weights FROM aggregator.journal
WHERE child_profile_id = $1::bigint AND history_id > $2::bigint ORDER BY history_id`
)

func journalOf(ctx context.Context, pool *pgxpool.Pool, sql string, profileID, historyID int64) ([]logged, error) {
	rows, _ := pool.Query(ctx, sql, profileID, historyID) // its error is also that of the rows
	return pgx.CollectRows(rows, scanLogged)
}

// booksOf is what the catalogue has of the books of a journal.
func booksOf(ctx context.Context, catalogue *scores.Catalogue, journal []logged) (map[int64]scores.Book, error) {
	var ids []int64
	for _, row := range journal {
		for _, entry := range row.entries {
			ids = append(ids, entry.BookID)
		}
	}
	return catalogue.Books(ctx, ids)
}

func scanLogged(row pgx.CollectableRow) (l logged, err error) {
	var p Packed
	if err = row.Scan(&l.source, &p.Positions, &p.Books, &p.Weights, &p.Exact); err == nil {
		l.entries, err = p.Entries()
	}
	return l, err
}
