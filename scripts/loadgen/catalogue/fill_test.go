package catalogue

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
	"aggregator/scripts/loadgen/tables"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	return db
}

func small() Shape {
	return Shape{Genres: 4, Topics: 5, Books: 60, Profiles: 50, Missing: 0.2, Seed: 3}
}

func count(t *testing.T, db *pgx.Conn, query string, args ...any) (n int64) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), query, args...).Scan(&n))
	return n
}

func TestFillWritesWhatTheShapeSays(t *testing.T) {
	db, s := connect(t, testenv.Database(t)), small()
	filled, err := Fill(t.Context(), db, s, false)
	require.NoError(t, err)
	for table, rows := range map[string]int64{
		"genre": 4, "topic": 5, "book": 60, "child_profile": 50,
		"book_topic": filled.BookTopics, "book_mbti": filled.BookTypes,
	} {
		require.Equal(t, rows, count(t, db, "SELECT count(*) FROM "+table), table)
	}
	require.Equal(t, filled.ScoreRows,
		count(t, db, `SELECT (SELECT count(*) FROM genre_score) + (SELECT count(*) FROM topic_score)
		+ (SELECT count(*) FROM cumulative_mbti_score)`))
	for profile := int64(1); profile <= s.Profiles; profile++ {
		for genre := int64(1); genre <= s.Genres; genre++ {
			rows := count(t, db, "SELECT count(*) FROM genre_score WHERE child_profile_id = $1 AND genre_id = $2 AND score = 0",
				profile, genre)
			require.Equal(t, s.HasGenreScore(profile, genre), rows == 1)
		}
	}
	for id := int64(1); id <= s.Books; id++ {
		b := s.Book(id)
		var genre int64
		var topics []int64
		var mbti string
		require.NoError(t, db.QueryRow(
			t.Context(), `SELECT genre_id, (SELECT array_agg(topic_id) FROM book_topic WHERE book_id = id),
			coalesce((SELECT mbti FROM book_mbti JOIN mbti ON mbti.id = mbti_id WHERE book_id = book.id), '') FROM book
				WHERE id = $1`, id).
			Scan(&genre, &topics, &mbti))
		require.Equal(t, b.Genre, genre)
		require.ElementsMatch(t, b.Topics, topics)
		require.Equal(t, b.Type, mbti)
	}
}

// origin returns a connection to a database that has the origin's tables in place of ours, and all
// that is in schema aggregator.
func origin(t *testing.T) *pgx.Conn {
	t.Helper()
	db := connect(t, testenv.Database(t))
	_, err := db.Exec(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	require.NoError(t, err)
	require.NoError(t, tables.Create(t.Context(), db))
	return db
}

// contents are what the application would see in the tables, by the names of either kind.
func contents(t *testing.T, db *pgx.Conn, k tables.Kind) []string {
	t.Helper()
	query := "SELECT 'book ' || id || ' ' || title || ' of genre ' || genre_id FROM book" +
		" UNION ALL SELECT 'genre ' || id || ' ' || name FROM genre" +
		" UNION ALL SELECT 'topic ' || id || ' ' || name FROM topic" +
		" UNION ALL SELECT 'child ' || id || ' ' || name FROM child_profile" +
		" UNION ALL SELECT 'topic ' || topic_id || ' of book ' || book_id FROM book_topic" +
		" UNION ALL SELECT mbti || ' of book ' || book_id" +
		" FROM mbti JOIN " + k.From("book_mbti") + " ON mbti.id = mbti_id" +
		" UNION ALL SELECT child_profile_id || ' genre ' || genre_id || ' ' || score FROM genre_score" +
		" UNION ALL SELECT child_profile_id || ' topic ' || topic_id || ' ' || score FROM topic_score" +
		" UNION ALL SELECT child_profile_id || ' letters ' || concat_ws(' ', " + tables.Scores + ")" +
		" FROM " + k.From("cumulative_mbti_score") +
		" UNION ALL SELECT concat_ws(' ', child_profile_id, 'history', history_created_type, mbti, " +
		tables.Scores + ") FROM " + k.From("child_personality_history") + " JOIN mbti ON mbti.id = mbti_id ORDER BY 1"
	rows, err := db.Query(t.Context(), query)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

// One shape makes the same rows in both kinds of tables, but for the ids that the origin's tables give
// to each of theirs.
func TestBothKindsOfTablesHoldTheSame(t *testing.T) {
	ours, theirs := connect(t, testenv.Database(t)), origin(t)
	one, err := Fill(t.Context(), ours, small(), false)
	require.NoError(t, err)
	other, err := FillTables(t.Context(), theirs, tables.Origin, small(), false)
	require.NoError(t, err)
	require.Equal(t, one, other)
	all := contents(t, theirs, tables.Origin)
	require.Equal(t, contents(t, ours, tables.Own), all)
	require.Contains(t, all, "50 history DIAGNOSIS INTJ 0 0 0 0 0 0 0 0")
	require.Contains(t, all, "book 60 Book 60 of genre 4")

	// A history row has its scores to itself, and stands in the order of the profiles.
	require.Equal(t, int64(50), count(t, theirs, `SELECT count(*) FROM child_personality_history
		WHERE id = child_profile_id AND mbti_score_id = child_profile_id AND NOT is_deleted`))
	require.Equal(t, int64(50), count(t, theirs, "SELECT count(*) FROM mbtiscore"))
	require.Equal(t, int64(61), count(t, theirs, "INSERT INTO book (title) VALUES ('new') RETURNING id"))
}

// The origin's times are those of the clock on the wall, wherever the database is.
func TestTheOriginsTimesAreLocal(t *testing.T) {
	for _, zone := range []string{"UTC", "Asia/Seoul", "Pacific/Marquesas"} {
		t.Run(zone, func(t *testing.T) {
			db := origin(t)
			_, err := db.Exec(t.Context(), "SELECT set_config('timezone', $1, false)", zone)
			require.NoError(t, err)
			_, err = FillTables(t.Context(), db, tables.Origin, small(), false)
			require.NoError(t, err)
			require.Equal(t, int64(50), count(t, db, `SELECT count(*) FROM child_personality_history
				WHERE created_at AT TIME ZONE $1
					BETWEEN now() - interval '1 day 20 minutes' AND now() - interval '1 day'`, zone))
		})
	}
}

func TestIDsAfterFillAreFree(t *testing.T) {
	db := connect(t, testenv.Database(t))
	_, err := Fill(t.Context(), db, small(), false)
	require.NoError(t, err)
	require.Equal(t, int64(61), count(t, db, "INSERT INTO book (title, genre_id) VALUES ('new', 1) RETURNING id"))
}

func TestFillRefusesADatabaseThatIsNotMigrated(t *testing.T) {
	_, err := Fill(t.Context(), connect(t, testenv.EmptyDatabase(t)), small(), false)
	require.ErrorIs(t, err, ErrNotMigrated)
}

func TestFillSaysWhatMakesTheOriginsTables(t *testing.T) {
	ours, empty := connect(t, testenv.Database(t)), connect(t, testenv.EmptyDatabase(t))
	for _, db := range []*pgx.Conn{ours, empty} {
		_, err := FillTables(t.Context(), db, tables.Origin, small(), false)
		require.ErrorIs(t, err, ErrNoTables)
	}
	require.NoError(t, tables.Create(t.Context(), empty))
	_, err := FillTables(t.Context(), empty, tables.Origin, small(), false)
	require.ErrorIs(t, err, ErrNotMigrated)
	_, err = Fill(t.Context(), origin(t), small(), false)
	require.ErrorIs(t, err, ErrNotMigrated)
}

func TestResetOfTheOriginsTables(t *testing.T) {
	db, s := origin(t), small()
	_, err := FillTables(t.Context(), db, tables.Origin, s, false)
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), `INSERT INTO favorite_genre (genre_id, history_id) VALUES (1, 1);
		INSERT INTO aggregator.mark (child_profile_id, source, position_ms, position_seq, applied)
		VALUES (1, 's', 1, 1, 1)`)
	require.NoError(t, err)
	_, err = FillTables(t.Context(), db, tables.Origin, s, false)
	require.ErrorIs(t, err, ErrNotEmpty)

	s.Profiles = 20
	_, err = FillTables(t.Context(), db, tables.Origin, s, true)
	require.NoError(t, err)
	for table, rows := range map[string]int64{
		"child_profile": 20, "child_personality_history": 20, "mbtiscore": 20,
		"favorite_genre": 0, "aggregator.mark": 0, "mbti": 16,
	} {
		require.Equal(t, rows, count(t, db, "SELECT count(*) FROM "+table), table)
	}
}

func TestFillRefusesAFullDatabaseUnlessItMayReset(t *testing.T) {
	db, s := connect(t, testenv.Database(t)), small()
	_, err := Fill(t.Context(), db, s, false)
	require.NoError(t, err)
	_, err = db.Exec(t.Context(),
		"INSERT INTO aggregator.mark (child_profile_id, source, position_ms, position_seq, applied) VALUES (1, 's', 1, 1, 1)")
	require.NoError(t, err)

	_, err = Fill(t.Context(), db, s, false)
	require.ErrorIs(t, err, ErrNotEmpty)
	require.Equal(t, int64(50), count(t, db, "SELECT count(*) FROM child_profile"))

	s.Profiles = 20
	_, err = Fill(t.Context(), db, s, true)
	require.NoError(t, err)
	require.Equal(t, int64(20), count(t, db, "SELECT count(*) FROM child_profile"))
	require.Zero(t, count(t, db, "SELECT count(*) FROM aggregator.mark"))
	require.Equal(t, int64(16), count(t, db, "SELECT count(*) FROM mbti"))
}

func TestBooksAreVaried(t *testing.T) {
	s := Default()
	genres, topics, types, untyped := map[int64]int{}, map[int]int{}, map[string]int{}, 0
	for id := int64(1); id <= s.Books; id++ {
		b := s.Book(id)
		require.Equal(t, b, s.Book(id))
		genres[b.Genre]++
		topics[len(b.Topics)]++
		types[b.Type]++
		if b.Type == "" {
			untyped++
		}
	}
	require.Len(t, genres, 10)
	require.Len(t, topics, 3)
	require.Len(t, types, 17)
	require.InDelta(t, 1000, untyped, 120)
}

func TestShapesThatCannotBe(t *testing.T) {
	for name, spoil := range map[string]func(*Shape){
		"no genre": func(s *Shape) { s.Genres = 0 }, "no topic": func(s *Shape) { s.Topics = -1 },
		"no book": func(s *Shape) { s.Books = 0 }, "no profile": func(s *Shape) { s.Profiles = 0 },
		"missing": func(s *Shape) { s.Missing = 1.5 },
	} {
		t.Run(name, func(t *testing.T) {
			s := small()
			spoil(&s)
			require.Error(t, s.Check())
		})
	}
}
