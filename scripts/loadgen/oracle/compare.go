package oracle

import (
	"fmt"
	"slices"
)

// compareProfiles checks every row of every profile.
func (v *verification) compareProfiles() {
	for p := range v.catalogue.profiles.ids {
		v.compareApplied(p)
		v.compareGrid(p, "genre", v.genres, v.found.genres, v.catalogue.genres)
		v.compareGrid(p, "topic", v.topics, v.found.topics, v.catalogue.topics)
		v.compareTypeScore(p)
		v.compareHistory(p)
	}
	for _, m := range v.found.strangers {
		v.report.RowsCompared++
		v.mismatch(m)
	}
	v.report.Applied += v.found.strangerApplied
	v.report.Doubled += v.found.strangerApplied
}

// compareApplied counts what was lost and doubled. Uncertain events have been settled by
// now, so that the expected count is one number.
func (v *verification) compareApplied(p int) {
	want, have := v.applied[p], v.found.applied[p]
	v.report.Applied += have
	v.report.ExpectedApplied += want
	if want > 0 {
		v.report.ProfilesTouched++
	}
	if want > 0 || have > 0 {
		v.report.RowsCompared++
	}
	v.report.Lost += max(0, want-have)
	v.report.Doubled += max(0, have-want)
	if want != have {
		v.differ(p, "aggregator.mark", fmt.Sprintf("%d applied", want), fmt.Sprintf("%d applied", have))
	}
}

func (v *verification) compareGrid(p int, of string, want, have *grid, columns axis) {
	wantScores, haveScores := want.of(p), have.of(p)
	wantRows, haveRows := want.rows(p), have.rows(p)
	for i, id := range columns.ids {
		must, may := v.rowRule(p, of, id, wantRows[i])
		if !haveRows[i] && !must {
			continue
		}
		v.report.RowsCompared++
		switch {
		case !haveRows[i]:
			v.differ(p, of+"_score", fmt.Sprintf("%s %d: %v", of, id, wantScores[i]), "no row")
		case !may:
			v.differ(p, of+"_score", "no row", fmt.Sprintf("%s %d: %v", of, id, haveScores[i]))
		case !equal(wantScores[i], haveScores[i]):
			v.differ(p, of+"_score", fmt.Sprintf("%s %d: %v", of, id, wantScores[i]), fmt.Sprintf("%v", haveScores[i]))
		}
	}
}

// rowRule says whether a score row must and may be there: it must when an event touched
// it or seeding made it, and without seeding known any row of 0 may.
func (v *verification) rowRule(p int, of string, id int64, touched bool) (must, may bool) {
	if touched || v.Seeded == nil {
		return touched, true
	}
	profile := v.catalogue.profiles.ids[p]
	seeded := false
	if of == "genre" {
		seeded = v.Seeded.HasGenreScore(profile, id)
	} else {
		seeded = v.Seeded.HasTopicScore(profile, id)
	}
	return seeded, seeded
}

func (v *verification) compareTypeScore(p int) {
	want, have := v.letters.of(p), v.found.letters.of(p)
	touched := slices.Contains(v.letters.rows(p), true)
	seeded := v.Seeded != nil && v.Seeded.HasTypeScore(v.catalogue.profiles.ids[p])
	// A profile may have been given its row of zeros along with its first history.
	may := touched || seeded || v.Seeded == nil || v.applied[p] > 0
	if !v.found.hasLetters[p] && !touched && !seeded {
		return
	}
	v.report.RowsCompared++
	switch {
	case !v.found.hasLetters[p]:
		v.differ(p, "cumulative_mbti_score", lettersText(want), "no row")
	case !may:
		v.differ(p, "cumulative_mbti_score", "no row", lettersText(have))
	case !slices.EqualFunc(want, have, equal):
		v.differ(p, "cumulative_mbti_score", lettersText(want), lettersText(have))
	}
}

// compareHistory checks the latest row of history, which must say what stands now.
func (v *verification) compareHistory(p int) {
	const table = "child_personality_history"
	have, has := v.found.history[p]
	if v.applied[p] == 0 {
		if has {
			v.report.RowsCompared++
			v.differ(p, table, "no row", "a row of type "+have.mbti)
		}
		return
	}
	v.report.RowsCompared++
	if !has {
		v.differ(p, table, "a row", "no row")
		return
	}
	scores := v.letters.of(p)
	if !have.dated {
		v.differ(p, table, "a time", "none")
	}
	if have.kind != "FEEDBACK" {
		v.differ(p, table, "FEEDBACK", have.kind)
	}
	if !slices.EqualFunc(scores, have.letters[:], equal) {
		v.differ(p, table, lettersText(scores), lettersText(have.letters[:]))
	}
	if name := typeOf(scores); name != have.mbti {
		v.differ(p, table, "type "+name, "type "+have.mbti)
	}
	v.compareFavourites(p, "favorite_genre", v.preferred(p, v.catalogue.genres, v.genres, v.found.genres), have.genres)
	v.compareFavourites(p, "favorite_topic", v.preferred(p, v.catalogue.topics, v.topics, v.found.topics), have.topics)
}

// preferred are the ids that must be favorites. A score is known if an event touched it, or if its row was
// there before, of which the database is the witness: compareGrid finds the rows that may not be there.
func (v *verification) preferred(p int, columns axis, want, have *grid) []int64 {
	known := slices.Clone(want.rows(p))
	for i, row := range have.rows(p) {
		known[i] = known[i] || row && !have.isNull(p, i)
	}
	return idsAt(columns.ids, v.Preferred.among(want.of(p), known))
}

func (v *verification) compareFavourites(p int, table string, want, have []int64) {
	v.report.RowsCompared += int64(max(len(want), len(have)))
	if !slices.Equal(want, have) {
		v.differ(p, table, fmt.Sprint(want), fmt.Sprint(have))
	}
}

func (v *verification) differ(p int, table, want, have string) {
	v.mismatch(Mismatch{v.catalogue.profiles.ids[p], table, want, have})
}

func lettersText(scores []float64) string {
	text := ""
	for i, letter := range letters {
		text += fmt.Sprintf("%c %v ", letter, scores[i])
	}
	return text[:len(text)-1]
}
