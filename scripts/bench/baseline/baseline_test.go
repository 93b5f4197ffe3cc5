package baseline

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
	"aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/oracle"
	"aggregator/scripts/loadgen/push"
	"aggregator/scripts/loadgen/workload"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var shape = catalogue.Shape{Genres: 4, Topics: 6, Books: 50, Profiles: 40, Missing: 0.2, Seed: 3}

func settings() workload.Settings {
	s := workload.Defaults()
	s.Count, s.Profiles, s.Books, s.Kind = 300, 30, 50, workload.List // some profiles have no event
	return s
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	return db
}

// seeded is the URL of a database that holds the shape.
func seeded(t *testing.T) string {
	t.Helper()
	url := testenv.Database(t)
	db, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = catalogue.Fill(t.Context(), db, shape, false)
	require.NoError(t, err)
	require.NoError(t, db.Close(t.Context()))
	return url
}

func state(t *testing.T, url string) string {
	t.Helper()
	s, err := State(t.Context(), url)
	require.NoError(t, err)
	return s
}

// applied is the URL of a database in which the events are applied by pure SQL.
func applied(t *testing.T) string {
	t.Helper()
	events, err := workload.Open(settings())
	require.NoError(t, err)
	url := seeded(t)
	require.NoError(t, PureSQL(t.Context(), url, Rows(events)))
	return url
}

func TestPureSQLDoesWhatTheEventsSay(t *testing.T) {
	db := connect(t, applied(t))
	s := settings()
	s.Kind = workload.Stream
	// It keeps no marks: these are what it would have kept.
	events, err := workload.Open(s)
	require.NoError(t, err)
	for i := range events.Len() {
		_, err := db.Exec(t.Context(), `INSERT INTO aggregator.mark VALUES ($1, 'book-like-events', 1, 1, 1)
			ON CONFLICT (child_profile_id, source) DO UPDATE SET applied = aggregator.mark.applied + 1`,
			events.At(i).Profile)
		require.NoError(t, err)
	}
	verdict, err := oracle.Verify(t.Context(), db, []*journal.Run{journal.Complete(s)},
		oracle.Options{Weights: oracle.Weights{Like: 2, Dislike: -2}, Seeded: &shape})
	require.NoError(t, err)
	require.True(t, verdict.OK(), "%+v", verdict)
	require.Equal(t, int64(300), verdict.Applied)
}

func TestOldJobEndsInTheSameState(t *testing.T) {
	want := state(t, applied(t))
	require.NotEqual(t, want, state(t, seeded(t)))
	options, err := redis.ParseURL(testenv.Redis(t))
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	s := settings()
	events, err := workload.Open(s)
	require.NoError(t, err)
	key := s.Keys()[0]
	_, err = push.Push(t.Context(), client, s, events, push.Options{Clients: 1, Pipeline: 100}, nil)
	require.NoError(t, err)
	url := seeded(t)
	require.NoError(t, OldJob(t.Context(), client, key, url))
	require.Equal(t, want, state(t, url))
	require.Zero(t, client.LLen(t.Context(), key).Val())
}

// The state must not depend on what is no outcome of the events, and on all that is.
func TestStateSeesWhatMatters(t *testing.T) {
	url := applied(t)
	db, before := connect(t, url), state(t, url)
	change := func(statement string) string {
		tag, err := db.Exec(t.Context(), statement)
		require.NoError(t, err)
		require.Positive(t, tag.RowsAffected())
		return state(t, url)
	}
	require.Equal(t, before, change("UPDATE child_personality_history SET created_at = created_at - interval '1 day'"))
	for _, statement := range []string{
		"UPDATE topic_score SET score = score + 1 WHERE child_profile_id = 1",
		"UPDATE genre_score SET score = score + 1 WHERE child_profile_id = 1",
		"UPDATE cumulative_mbti_score SET p_score = p_score + 1 WHERE child_profile_id = 2",
		`UPDATE child_personality_history SET i_score = i_score + 1
			WHERE child_profile_id = 3 AND history_created_type = 'FEEDBACK'`,
		"DELETE FROM favorite_genre WHERE child_profile_id = 4",
		"DELETE FROM favorite_topic WHERE child_profile_id = 5",
	} {
		after := change(statement)
		require.NotEqual(t, before, after, statement)
		before = after
	}
}
