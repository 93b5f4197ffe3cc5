package oracle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"aggregator/scripts/loadgen/workload"
)

// letter is a dead letter, without its place in the stream, which a producer does not
// know. Its payload, which may be a megabyte, is known by its length and hash.
type letter struct {
	source, form, reason string
	size                 int
	hash                 [sha256.Size]byte
}

func newLetter(source, reason string, e workload.Event) letter {
	form, payload := e.Payload()
	return letter{source, form, reason, len(payload), sha256.Sum256(payload)}
}

// sameEvent is the letter with its reason left out.
func (l letter) sameEvent() letter {
	l.reason = ""
	return l
}

func (l letter) String() string {
	return fmt.Sprintf("%s: %s, %s of %d bytes, sha256 %x", l.source, l.reason, l.form, l.size, l.hash[:6])
}

func (l letter) compare(other letter) int {
	return cmp.Or(
		cmp.Compare(l.source, other.source), cmp.Compare(l.reason, other.reason), cmp.Compare(l.form, other.form),
		cmp.Compare(l.size, other.size), slices.Compare(l.hash[:], other.hash[:]),
	)
}

// due is how often a dead letter must be there.
type due struct {
	certain, possible int64  // of acknowledged events; of those and of unknown outcomes
	sample            string // the beginning of its payload
}

// readDeadLetters counts those that are dead. One that was applied after all, from its row,
// is an event applied to its profile, which no mark counts.
func (f *found) readDeadLetters(ctx context.Context, tx pgx.Tx, c *catalogue) error {
	var l letter
	var hash []byte
	query := `SELECT source, payload_form, reason, octet_length(payload), sha256(payload) FROM aggregator.dead_letter
		WHERE settled_as IS DISTINCT FROM 'applied'`
	err := each(ctx, tx, query, []any{&l.source, &l.form, &l.reason, &l.size, &hash}, func() {
		copy(l.hash[:], hash)
		f.letterRows[l]++
	})
	if err != nil {
		return err
	}
	var profile, n int64
	query = "SELECT coalesce(child_profile_id, -1), count(*) FROM aggregator.dead_letter WHERE settled_as = 'applied' " +
		"GROUP BY 1"
	return each(ctx, tx, query, []any{&profile, &n}, func() {
		if p, known := c.profiles.place[profile]; known {
			f.applied[p] += n
			return
		}
		f.strangerApplied += n
		f.stranger(profile, "aggregator.dead_letter", fmt.Sprintf("%d applied", n))
	})
}

// compareLetters checks the dead letters. A letter that is there with another reason is
// one mismatch, and neither lost nor doubled.
func (v *verification) compareLetters() {
	missing, surplus := map[letter]int64{}, map[letter]int64{}
	for l, want := range v.due {
		v.report.ExpectedDead += want.certain
		have := v.found.letterRows[l]
		v.report.RowsCompared += max(have, want.certain)
		if have < want.certain {
			missing[l] = want.certain - have
		}
	}
	for l, have := range v.found.letterRows {
		v.report.Dead += have
		if most := v.possible(l); have > most {
			surplus[l] = have - most
		}
	}
	v.pairReasons(missing, surplus)
	for _, l := range sorted(missing) {
		v.report.Lost += missing[l]
		v.mismatch(Mismatch{0, "aggregator.dead_letter", v.describe(l, missing[l]), "none"})
	}
	for _, l := range sorted(surplus) {
		v.report.Doubled += surplus[l]
		v.mismatch(Mismatch{
			0, "aggregator.dead_letter", fmt.Sprintf("no more than %d", v.possible(l)),
			v.describe(l, v.found.letterRows[l]),
		})
	}
}

func (v *verification) possible(l letter) int64 {
	if want := v.due[l]; want != nil {
		return want.possible
	}
	return 0
}

// pairReasons takes out what is missing under one reason and too many under another.
func (v *verification) pairReasons(missing, surplus map[letter]int64) {
	others := map[letter][]letter{}
	for _, l := range sorted(surplus) {
		others[l.sameEvent()] = append(others[l.sameEvent()], l)
	}
	for _, l := range sorted(missing) {
		for _, other := range others[l.sameEvent()] {
			n := min(missing[l], surplus[other])
			if n == 0 {
				continue
			}
			missing[l] -= n
			surplus[other] -= n
			v.mismatch(Mismatch{0, "aggregator.dead_letter", v.describe(l, n), "reason " + other.reason})
		}
	}
	for l, n := range missing {
		if n == 0 {
			delete(missing, l)
		}
	}
	for l, n := range surplus {
		if n == 0 {
			delete(surplus, l)
		}
	}
}

func (v *verification) describe(l letter, n int64) string {
	text := l.String()
	if want := v.due[l]; want != nil {
		text += " " + want.sample
	}
	if n > 1 {
		text = fmt.Sprintf("%d times %s", n, text)
	}
	return text
}

func sorted(letters map[letter]int64) []letter {
	keys := make([]letter, 0, len(letters))
	for l := range letters {
		keys = append(keys, l)
	}
	slices.SortFunc(keys, letter.compare)
	return keys
}
