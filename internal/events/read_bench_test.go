package events_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"aggregator/internal/events"
	"aggregator/internal/testenv"
)

func BenchmarkParse(b *testing.B) {
	decoder, text := events.NewDecoder(weights), []byte("10008:674:LIKE")
	b.ReportAllocs()
	for b.Loop() {
		if _, reason, _ := decoder.Parse(text); reason != "" {
			b.Fatal(reason)
		}
	}
}

// BenchmarkRead reads and decodes a page of a stream, in each of the two forms of an
// entry, from a Redis beside it.
func BenchmarkRead(b *testing.B) {
	const entries = 1000
	for name, values := range map[string]func(i int) []any{
		"text":   func(i int) []any { return []any{"event", fmt.Sprintf("%d:%d:LIKE", 10_000+i, i)} },
		"fields": func(i int) []any { return []any{"child_profile_id", 10_000 + i, "book_id", i, "action", "LIKE"} },
	} {
		b.Run(name, func(b *testing.B) {
			options, err := redis.ParseURL(testenv.Redis(b))
			if err != nil {
				b.Fatal(err)
			}
			client := redis.NewClient(options)
			defer client.Close()
			push := client.Pipeline()
			for i := range entries {
				push.XAdd(b.Context(), &redis.XAddArgs{Stream: "s", Values: values(i)})
			}
			if _, err := push.Exec(b.Context()); err != nil {
				b.Fatal(err)
			}
			sources, err := events.Sources(
				client, events.Options{Kind: events.KindStream, Key: "s", Partitions: 1, Weights: weights})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				var batch events.Batch
				if n, err := sources[0].Read(b.Context(), &batch, entries, 0); n != entries || err != nil {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*entries), "ns/event")
		})
	}
}
