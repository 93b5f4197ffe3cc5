package config

import (
	"slices"
	"strings"
)

// unknownVariables are the errors of AGGREGATOR_* variables that are no settings: a
// misspelt one would otherwise be without effect, and without a word.
func unknownVariables(environ []string) []error {
	known := []string{fileVariable}
	for _, s := range settings {
		known = append(known, s.Env())
	}
	var all []error
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(known, name) {
			all = append(all, invalidf("environment variable %s: no such setting%s", name, suggest(name, known)))
		}
	}
	return all
}

// suggest returns "; did you mean ...?" when one of the known names is close.
func suggest(name string, known []string) string {
	best, least := "", 4 // more than three wrong letters are another word
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is how many letters must be added, removed or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
