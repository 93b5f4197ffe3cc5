package apply

import (
	"slices"

	"github.com/jackc/pgx/v5"

	"aggregator/internal/events"
	"aggregator/internal/history"
	"aggregator/internal/ledger"
	"aggregator/internal/scores"
)

// change is what one transaction writes for one profile: its mark, and what to add to its scores.
type change struct {
	delta    scores.Delta
	seen, to events.Position // where the mark was read (zero: none), and where it goes (zero: it stays)
	applied  int             // events that the mark counts
	careful  bool
	events   []events.Event // that the delta is made of, in order; only for the journal
}

// longStatement is how many profiles a statement writes at most. With 50, the cost of beginning a statement is
// shared by enough profiles.
const longStatement = 50

// changes are the arguments of the functions, in their order except the first three: one
// array for each column.
type changes struct {
	profiles, seenMs, seenSeq, toMs, toSeq, applied []int64
	changed, careful, typed                         []bool
	letters                                         [scores.NumLetters][]float64
	firstGenre, lastGenre                           []int32
	genres                                          []int64
	genreSums                                       []float64
	firstTopic, lastTopic                           []int32
	topics                                          []int64
	topicSums                                       []float64
}

// rules are what a history row depends on, besides the scores.
type rules struct {
	types     history.Types
	preferred scores.Preference
	journal   bool // its events are kept with it
}

// columns lays out changes of different profiles, by rising id.
func columns(all []change) *changes {
	n, genres, topics := len(all), 0, 0
	for i := range all {
		genres += len(all[i].delta.Genres)
		topics += len(all[i].delta.Topics)
	}
	var (
		numbers = make([]int64, 6*n+genres+topics)
		sums    = make([]float64, scores.NumLetters*n+genres+topics)
		places  = make([]int32, 4*n)
		flags   = make([]bool, 3*n)
	)
	c := &changes{
		profiles: cut(&numbers, n), seenMs: cut(&numbers, n), seenSeq: cut(&numbers, n),
		toMs: cut(&numbers, n), toSeq: cut(&numbers, n), applied: cut(&numbers, n),
		changed: cut(&flags, n), careful: cut(&flags, n), typed: cut(&flags, n),
		firstGenre: cut(&places, n), lastGenre: cut(&places, n), firstTopic: cut(&places, n), lastTopic: cut(&places, n),
		genres: cut(&numbers, genres)[:0], topics: cut(&numbers, topics)[:0],
		genreSums: cut(&sums, genres)[:0], topicSums: cut(&sums, topics)[:0],
	}
	for letter := range c.letters {
		c.letters[letter] = cut(&sums, n)
	}
	for i := range all {
		ch := &all[i]
		d := &ch.delta
		c.profiles[i], c.applied[i] = d.ProfileID, int64(ch.applied)
		c.seenMs[i], c.seenSeq[i] = ch.seen.Ms, ch.seen.Seq
		c.toMs[i], c.toSeq[i] = ch.to.Ms, ch.to.Seq
		c.changed[i], c.careful[i], c.typed[i] = d.Events > 0, ch.careful, d.Typed
		for letter, v := range d.MBTI {
			c.letters[letter][i] = v
		}
		c.firstGenre[i], c.firstTopic[i] = int32(len(c.genres)+1), int32(len(c.topics)+1)
		for _, s := range d.Genres {
			c.genres, c.genreSums = append(c.genres, s.ID), append(c.genreSums, s.Value)
		}
		for _, s := range d.Topics {
			c.topics, c.topicSums = append(c.topics, s.ID), append(c.topicSums, s.Value)
		}
		c.lastGenre[i], c.lastTopic[i] = int32(len(c.genres)), int32(len(c.topics))
	}
	return c
}

// cut takes n elements off a slice.
func cut[T any](from *[]T, n int) []T {
	taken := (*from)[:n:n]
	*from = (*from)[n:]
	return taken
}

// queueEach puts a call onto the batch that writes each change in a transaction of its own. It must
// be the only statement of the batch, and not be sent within a transaction.
func queueEach(batch *pgx.Batch, from ledger.Checkpoint, by rules, all []change) {
	args := columns(all).arguments(from, by)
	if by.journal {
		batch.Queue(applyEachJournaled, append(args, journaled(all)...)...)
		return
	}
	batch.Queue(applyEach, args...)
}

// journaled are the further arguments of a call with the journal. The positions of all events must fit into one
// number each (history.Fit).
func journaled(all []change) []any {
	first, last := make([]int32, len(all)), make([]int32, len(all))
	var together []events.Event
	for i, ch := range all {
		first[i] = int32(len(together) + 1)
		together = append(together, ch.events...)
		last[i] = int32(len(together))
	}
	p := history.Pack(together)
	return []any{first, last, p.Positions, p.Books, p.Weights, p.Exact}
}

// queueTogether puts statements onto the batch that write the changes in the batch's transaction. They
// must be the first of it: each locks the marks of its profiles. With the journal, each profile has a statement.
func queueTogether(batch *pgx.Batch, from ledger.Checkpoint, by rules, all []change) {
	if len(all) == 1 || by.journal {
		for _, ch := range all {
			queueOne(batch, from, by, ch)
		}
		return
	}
	for some := range slices.Chunk(all, longStatement) {
		batch.Queue(applyTogether, columns(some).arguments(from, by)...)
	}
}

func (c *changes) arguments(from ledger.Checkpoint, by rules) []any {
	l := &c.letters
	return []any{
		from.Source, from.Epoch, by.types[:], by.preferred.AboveMean(),
		c.profiles, c.seenMs, c.seenSeq, c.toMs, c.toSeq, c.applied, c.changed, c.careful, c.typed,
		l[0], l[1], l[2], l[3], l[4], l[5], l[6], l[7],
		c.firstGenre, c.lastGenre, c.genres, c.genreSums, c.firstTopic, c.lastTopic, c.topics, c.topicSums,
	}
}

// queueOne does it for one profile, carefully if the change says so. A change that is not finite is refused, as
// PostgreSQL refuses two numbers whose sum is not finite. Single events of such a change may still be applicable.
func queueOne(batch *pgx.Batch, from ledger.Checkpoint, by rules, ch change) {
	d, m := &ch.delta, &ch.delta.MBTI
	if !d.Finite() {
		batch.Queue(refuseOne, outOfRange, "the sum of several events is not a finite number", d.ProfileID)
		return
	}
	var toMs, toSeq *int64
	if !ch.to.IsZero() {
		toMs, toSeq = &ch.to.Ms, &ch.to.Seq
	}
	genres, genreSums := unzip(d.Genres)
	topics, topicSums := unzip(d.Topics)
	sql, args := applyOne, []any{
		d.ProfileID, from.Source, from.Epoch, ch.seen.Ms, ch.seen.Seq, toMs, toSeq, ch.applied,
		d.Events > 0, ch.careful, by.types[:], by.preferred.AboveMean(), d.Typed, m[0], m[1], m[2], m[3], m[4], m[5], m[6],
		m[7],
		genres, genreSums, topics, topicSums,
	}
	if by.journal && d.Events > 0 {
		p := history.Pack(ch.events)
		sql, args = applyOneJournaled, append(args, p.Positions, p.Books, p.Weights, p.Exact)
	}
	batch.Queue(sql, args...)
}

func unzip(sums []scores.Sum) (ids []int64, values []float64) {
	ids, values = make([]int64, len(sums)), make([]float64, len(sums))
	for i, s := range sums {
		ids[i], values[i] = s.ID, s.Value
	}
	return ids, values
}

// See internal/postgres/migrations/00011_apply.sql, and 00013_journal.sql.
const (
	refuseOne  = `SELECT aggregator.refuse($1, $2, $3)`
	outOfRange = "22003" // numeric_value_out_of_range

	applyOne = `SELECT aggregator.apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
    $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)`
	applyOneJournaled = `SELECT aggregator.apply_journaled($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
    $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)`
	applyEach = `CALL aggregator.apply_each($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
    $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)`
	applyEachJournaled = `CALL aggregator.apply_each_journaled($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
    $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35)`
	applyTogether = `SELECT aggregator.apply_together($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
    $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)`
)
