package config

import (
	"regexp"
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
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(known, name) && !ofService(name, entry) {
			all = append(all, invalidf("environment variable %s: no such setting%s", name, suggest(name, known)))
		}
	}
	return all
}

// What Kubernetes, and links of Docker, tell a container of a service that is called
// aggregator, or aggregator-redis: AGGREGATOR_SERVICE_HOST, AGGREGATOR_SERVICE_PORT_HTTP,
// AGGREGATOR_REDIS_PORT_6379_TCP_ADDR, and AGGREGATOR_PORT=tcp://10.0.0.1:80.
var (
	serviceVariable = regexp.MustCompile(
		`^AGGREGATOR_([A-Z0-9_]+_)?` +
			`(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)$`)
	serviceAddress = regexp.MustCompile(`^AGGREGATOR_([A-Z0-9_]+_)?PORT=(tcp|udp|sctp)://`)
)

// ofService says whether a variable is one of these.
func ofService(name, entry string) bool {
	return serviceVariable.MatchString(name) || serviceAddress.MatchString(entry)
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
