package baseline

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// OldJob is the batch job that the aggregator replaces: it reads the whole list at once,
// works through it in chunks, a transaction each, and removes what a chunk held from the
// list one by one. Its statements are those of the original, one query for each row that
// is read or written; the domain rules are ours, so that the outcome can be compared. The
// original ran on a JVM with JPA; this has none of that, and prepared statements.
//
// The fields are the steps by which its author made it faster.
type OldJob struct {
	Name    string
	Chunk   int
	Cached  bool // books and profiles are read once
	Grouped bool // the events of a chunk are summed up by profile first
	Bulk    bool // scores are added to where they are, not read and written back
}

// Ladder are the steps, each with those before it.
var Ladder = []OldJob{
	{Name: "a query per read and write", Chunk: 100},
	{Name: "+ books and profiles cached", Chunk: 100, Cached: true},
	{Name: "+ grouped by profile, chunk of 500", Chunk: 500, Cached: true, Grouped: true},
	{Name: "+ bulk updates", Chunk: 500, Cached: true, Grouped: true, Bulk: true},
}

// Run drains the list.
func (j OldJob) Run(ctx context.Context, list *redis.Client, key, url string) error {
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	texts, err := list.LRange(ctx, key, 0, -1).Result()
	if err != nil {
		return err
	}
	c := &chunk{OldJob: j, books: map[int64]book{}, profiles: map[int64]bool{}}
	for begin := 0; begin < len(texts); begin += j.Chunk {
		some := texts[begin:min(begin+j.Chunk, len(texts))]
		if err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return c.write(ctx, tx, some) }); err != nil {
			return err
		}
		for _, text := range some {
			if err := list.LRem(ctx, key, 1, text).Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// chunk is what the job has in hand.
type chunk struct {
	OldJob
	tx       pgx.Tx
	books    map[int64]book
	profiles map[int64]bool
}

type book struct {
	genre  int64
	topics []int64
	mbti   string
}

// sums are what to add to the scores of a profile.
type sums struct {
	genres, topics map[int64]float64
	letters        map[byte]float64
}

func newSums() *sums {
	return &sums{map[int64]float64{}, map[int64]float64{}, map[byte]float64{}}
}

func (s *sums) add(b book, weight float64) {
	s.genres[b.genre] += weight
	for _, topic := range b.topics {
		s.topics[topic] += weight
	}
	for i := range len(b.mbti) {
		s.letters[b.mbti[i]] += weight
	}
}

// write settles the events of a chunk in a transaction.
func (c *chunk) write(ctx context.Context, tx pgx.Tx, texts []string) error {
	c.tx = tx
	var order []int64 // profiles as they first appear
	all := map[int64]*sums{}
	for _, text := range texts {
		profile, bookID, weight, err := parse(text)
		if err != nil {
			return err
		}
		b, err := c.look(ctx, profile, bookID)
		if err != nil {
			return err
		}
		if all[profile] == nil {
			all[profile] = newSums()
			order = append(order, profile)
		}
		all[profile].add(b, weight)
		if c.Grouped {
			continue
		}
		one := newSums()
		one.add(b, weight)
		if err := c.addScores(ctx, profile, one); err != nil {
			return err
		}
	}
	for _, profile := range order {
		if c.Grouped {
			if err := c.addScores(ctx, profile, all[profile]); err != nil {
				return err
			}
		}
		if err := c.addHistory(ctx, profile); err != nil {
			return err
		}
	}
	return nil
}

func parse(text string) (profile, book int64, weight float64, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return 0, 0, 0, fmt.Errorf("%q is no event", text)
	}
	if profile, err = strconv.ParseInt(parts[0], 10, 64); err != nil {
		return 0, 0, 0, err
	}
	if book, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
		return 0, 0, 0, err
	}
	if parts[2] == "LIKE" {
		return profile, book, 2, nil
	}
	return profile, book, -2, nil
}

// look reads the profile and the book of an event.
func (c *chunk) look(ctx context.Context, profile, id int64) (b book, err error) {
	if !c.Cached || !c.profiles[profile] {
		var name string
		if err = c.tx.QueryRow(ctx, "SELECT name FROM child_profile WHERE id = $1", profile).Scan(&name); err != nil {
			return b, fmt.Errorf("profile %d: %w", profile, err)
		}
		c.profiles[profile] = true
	}
	if b, known := c.books[id]; c.Cached && known {
		return b, nil
	}
	var title string
	if err = c.tx.QueryRow(ctx, "SELECT title, genre_id FROM book WHERE id = $1", id).Scan(&title, &b.genre); err != nil {
		return b, fmt.Errorf("book %d: %w", id, err)
	}
	rows, err := c.tx.Query(ctx, "SELECT topic_id FROM book_topic WHERE book_id = $1", id)
	if err != nil {
		return b, err
	}
	if b.topics, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
		return b, err
	}
	rows, err = c.tx.Query(ctx, "SELECT m.mbti FROM book_mbti b JOIN mbti m ON m.id = b.mbti_id WHERE b.book_id = $1", id)
	if err != nil {
		return b, err
	}
	types, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if len(types) > 0 {
		b.mbti = types[0]
	}
	c.books[id] = b
	return b, err
}
