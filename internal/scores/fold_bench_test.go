package scores_test

import (
	"log/slog"
	"testing"
	"time"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
)

// BenchmarkFoldProfile folds the events of a profile that has a few in a chunk, and of one that
// has them all.
func BenchmarkFoldProfile(b *testing.B) {
	letters, err := scores.ParseType("INTJ")
	if err != nil {
		b.Fatal(err)
	}
	books := map[int64]scores.Book{}
	for id := range int64(10_000) {
		books[id] = scores.Book{
			GenreID: 1 + id%10, HasGenre: true, Topics: []int64{1 + id%25, 1 + (id+1)%25},
			Letters: letters,
		}
	}
	like, _, _ := events.NewDecoder(map[string]float64{"LIKE": 2}).Parse([]byte("1:1:LIKE"))
	for name, n := range map[string]int{"few": 5, "all": 50_000} {
		b.Run(name, func(b *testing.B) {
			profile := make([]events.Event, n)
			for i := range profile {
				profile[i] = like
				profile[i].BookID = int64(i * 7919 % 10_000)
			}
			b.ReportAllocs()
			for b.Loop() {
				if delta, _ := scores.Fold(1, profile, books); delta.Events != n {
					b.Fatal(delta.Events)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
		})
	}
}

// BenchmarkCatalogue looks up books and profiles that are all remembered.
func BenchmarkCatalogue(b *testing.B) {
	const rows = 10_000
	pool, err := postgres.Open(b.Context(), postgres.Options{URL: testenv.Database(b), MaxConns: 2})
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	for _, statement := range []string{
		`INSERT INTO genre (id, name) VALUES (1, 'g')`,
		`INSERT INTO topic (id, name) VALUES (1, 't')`,
		`INSERT INTO book (id, title, genre_id) SELECT id, 'b', 1 FROM generate_series(1, 10000) id`,
		`INSERT INTO book_topic (book_id, topic_id) SELECT id, 1 FROM generate_series(1, 10000) id`,
		`INSERT INTO child_profile (id, name) SELECT id, 'c' FROM generate_series(1, 10000) id`,
	} {
		if _, err := pool.Exec(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
	catalogue := scores.NewCatalogue(
		pool, slog.New(slog.DiscardHandler), scores.CatalogueOptions{Books: 2 * rows, Profiles: 2 * rows, TTL: time.Hour})
	ids := make([]int64, rows)
	for i := range ids {
		ids[i] = int64(i + 1)
	}
	for name, look := range map[string]func() (int, error){
		"books": func() (int, error) {
			found, err := catalogue.Books(b.Context(), ids)
			return len(found), err
		},
		"profiles": func() (int, error) {
			found, err := catalogue.Profiles(b.Context(), ids)
			return len(found), err
		},
	} {
		b.Run(name, func(b *testing.B) {
			if n, err := look(); n != rows || err != nil { // from here on they are known
				b.Fatal(n, err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if n, err := look(); n != rows || err != nil {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/id")
		})
	}
}
