package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"aggregator/internal/aggregator"
	"aggregator/internal/scores"
	"aggregator/internal/service"
	"aggregator/internal/terminal"
)

// previewReport is what a drain would do. Its names are those of the JSON form.
type previewReport struct {
	aggregator.Preview
	Profiles []profileDelta `json:"profiles"`
}

// profileDelta is what a drain would add to a profile: by id, and by letter.
type profileDelta struct {
	ProfileID int64              `json:"child_profile_id"`
	Events    int                `json:"events"`
	Genres    map[string]float64 `json:"genres"`
	Topics    map[string]float64 `json:"topics"`
	MBTI      map[string]float64 `json:"mbti"`
}

func (a *app) preview(ctx context.Context, engine *service.Engine, maxEvents int64, out *output) error {
	p, err := engine.Preview(ctx, maxEvents)
	if err != nil {
		return err
	}
	if out.json() {
		return writeJSON(a.stdout, newPreviewReport(p))
	}
	return printPreview(a.stdout, p)
}

func newPreviewReport(p aggregator.Preview) previewReport {
	r := previewReport{Preview: p, Profiles: make([]profileDelta, len(p.Deltas))}
	for i, d := range p.Deltas {
		r.Profiles[i] = profileDelta{
			ProfileID: d.ProfileID, Events: d.Events,
			Genres: byID(d.Genres), Topics: byID(d.Topics), MBTI: make(map[string]float64),
		}
		if d.Typed {
			for letter, value := range d.MBTI {
				r.Profiles[i].MBTI[scores.LetterName(letter)] = value
			}
		}
	}
	return r
}

func byID(sums []scores.Sum) map[string]float64 {
	m := make(map[string]float64, len(sums))
	for _, s := range sums {
		m[strconv.FormatInt(s.ID, 10)] = s.Value
	}
	return m
}

func printPreview(w io.Writer, p aggregator.Preview) error {
	for _, d := range p.Deltas {
		fmt.Fprintf(w, "profile %d: %s; genres %s; topics %s; mbti %s\n",
			d.ProfileID, terminal.Count(int64(d.Events), "event"), sumsText(d.Genres), sumsText(d.Topics), lettersText(d))
	}
	dead := int64(0)
	for _, n := range p.Dead {
		dead += n
	}
	fmt.Fprintf(w, "would apply %s of %s to %s; %s, %s processed before; nothing was written\n",
		grouped(p.Applied), terminal.Count(p.Read, "event"), terminal.Count(int64(len(p.Deltas)), "profile"),
		letterCount(dead), grouped(p.Skipped))
	for _, reason := range slices.Sorted(maps.Keys(p.Dead)) {
		fmt.Fprintf(w, "  dead: %s %s\n", grouped(p.Dead[reason]), reason)
	}
	return nil
}

func sumsText(sums []scores.Sum) string {
	parts := make([]string, len(sums))
	for i, s := range sums {
		parts[i] = fmt.Sprintf("%d:%+g", s.ID, s.Value)
	}
	return orNone(parts)
}

func lettersText(d scores.Delta) string {
	var parts []string
	for letter, value := range d.MBTI {
		if value != 0 {
			parts = append(parts, fmt.Sprintf("%s%+g", scores.LetterName(letter), value))
		}
	}
	return orNone(parts)
}

func orNone(parts []string) string {
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, " ")
}
