package catalogue

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
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
	require.Equal(t, filled.ScoreRows, count(t, db, `SELECT (SELECT count(*) FROM genre_score) + (SELECT count(*) FROM topic_score)
		+ (SELECT count(*) FROM cumulative_mbti_score)`))
	for profile := int64(1); profile <= s.Profiles; profile++ {
		for genre := int64(1); genre <= s.Genres; genre++ {
			rows := count(t, db, "SELECT count(*) FROM genre_score WHERE child_profile_id = $1 AND genre_id = $2 AND score = 0", profile, genre)
			require.Equal(t, s.HasGenreScore(profile, genre), rows == 1)
		}
	}
	for id := int64(1); id <= s.Books; id++ {
		b := s.Book(id)
		var genre int64
		var topics []int64
		var mbti string
		require.NoError(t, db.QueryRow(t.Context(), `SELECT genre_id, (SELECT array_agg(topic_id) FROM book_topic WHERE book_id = id),
			coalesce((SELECT mbti FROM book_mbti JOIN mbti ON mbti.id = mbti_id WHERE book_id = book.id), '') FROM book WHERE id = $1`, id).
			Scan(&genre, &topics, &mbti))
		require.Equal(t, b.Genre, genre)
		require.ElementsMatch(t, b.Topics, topics)
		require.Equal(t, b.Type, mbti)
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

func TestFillRefusesAFullDatabaseUnlessItMayReset(t *testing.T) {
	db, s := connect(t, testenv.Database(t)), small()
	_, err := Fill(t.Context(), db, s, false)
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), "INSERT INTO aggregator.mark (child_profile_id, source, position_ms, position_seq, applied) VALUES (1, 's', 1, 1, 1)")
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
