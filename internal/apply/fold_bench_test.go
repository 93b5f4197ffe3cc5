package apply

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
)

// BenchmarkReadToFold takes a chunk all the way from Redis to the sums of its profiles:
// read, decoded, grouped, its books and profiles looked up, which are remembered, and
// folded. What comes after is PostgreSQL's.
func BenchmarkReadToFold(b *testing.B) {
	const entries, profiles, books = 50_000, 10_000, 10_000
	options, err := redis.ParseURL(testenv.Redis(b))
	if err != nil {
		b.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	push := client.Pipeline()
	for i := range entries {
		text := fmt.Sprintf("%d:%d:LIKE", 1+i*7919%profiles, 1+i*104_729%books)
		push.XAdd(b.Context(), &redis.XAddArgs{Stream: "s", Values: []any{"event", text}})
	}
	if _, err := push.Exec(b.Context()); err != nil {
		b.Fatal(err)
	}
	sources, err := events.Sources(client, events.Options{
		Kind: events.KindStream, Key: "s", Partitions: 1, Weights: map[string]float64{"LIKE": 2},
	})
	if err != nil {
		b.Fatal(err)
	}
	pool, err := postgres.Open(b.Context(), postgres.Options{URL: testenv.Database(b), MaxConns: 2})
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	for _, statement := range []string{
		`INSERT INTO genre (id, name) SELECT id, 'g' FROM generate_series(1, 10) id`,
		`INSERT INTO topic (id, name) SELECT id, 't' FROM generate_series(1, 25) id`,
		`INSERT INTO book (id, title, genre_id) SELECT id, 'b', 1 + id % 10 FROM generate_series(1, 10000) id`,
		`INSERT INTO book_topic (book_id, topic_id) SELECT id, 1 + (id + n) % 25 FROM generate_series(1, 10000) id, ` +
			`generate_series(1, 2) n`,
		`INSERT INTO book_mbti (book_id, mbti_id) SELECT id, (SELECT min(m.id) FROM mbti m) + id % 16 FROM ` +
			`generate_series(1, 10000) id`,
		`INSERT INTO child_profile (id, name) SELECT id, 'c' FROM generate_series(1, 10000) id`,
	} {
		if _, err := pool.Exec(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
	remembered := scores.NewCatalogue(
		pool, slog.New(slog.DiscardHandler),
		scores.CatalogueOptions{Books: 2 * books, Profiles: 2 * profiles, TTL: time.Hour})
	chunk := func() {
		var batch events.Batch
		for batch.Entries < entries {
			if n, err := sources[0].Read(b.Context(), &batch, 100, 0); n == 0 || err != nil {
				b.Fatal(n, err)
			}
		}
		all := batch.Events
		segments := group(all)
		var known known
		if known.profiles, err = remembered.Profiles(b.Context(), profileIDs(segments)); err != nil {
			b.Fatal(err)
		}
		if known.books, err = remembered.Books(b.Context(), bookIDs(all)); err != nil {
			b.Fatal(err)
		}
		for _, seg := range segments {
			if delta, _, dead := known.fold(seg); delta.Events != len(seg.events) || len(dead) > 0 {
				b.Fatal("not all was folded")
			}
		}
	}
	chunk() // from here on books and profiles are known
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ReportAllocs()
	for b.Loop() {
		chunk()
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*entries), "ns/event")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N*entries), "allocs/event")
}
