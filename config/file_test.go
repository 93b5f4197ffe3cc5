package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFileHasTextAsWritten(t *testing.T) {
	for written, want := range map[string]string{
		"0123": "0123", "0x1F": "0x1F", "0o17": "0o17", "0b1": "0b1", "1_000": "1_000", "1e3": "1e3", "1.0": "1.0",
		"+1": "+1", ".5": ".5", ".inf": ".inf",
		"123456789012345678901234567890": "123456789012345678901234567890", "190:20:30": "190:20:30",
		"yes": "yes", "no": "no", "on": "on", "OFF": "OFF", "True": "True", "y": "y",
		"2024-01-01": "2024-01-01", "2024-01-01T00:00:00Z": "2024-01-01T00:00:00Z",
		`"0123"`: "0123", "'0x1F'": "0x1F", "!!str 0123": "0123", `"null"`: "null", `"a\u0062"`: "ab", "'it''s'": "it's",
		"plain # not this": "plain",
		// as YAML has it, nothing
		"null": "book-like-events", "~": "book-like-events", "": "book-like-events",
	} {
		t.Run(written, func(t *testing.T) {
			isolate(t)
			writeFile(t, "aggregator.yaml", "source:\n  key: "+written+"\n")
			c, err := load(t)
			require.NoError(t, err)
			require.Equal(t, want, c.Source.Key)
		})
	}
}

func TestFileHasNumbersAsVariablesHave(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"hexadecimal": {"apply: {workers: 0x1F}", `apply.workers = "0x1F" (aggregator.yaml:1): want a whole number, 1 to 64`},
		"underscores": {
			"chunk: {max_events: 1_000}",
			`chunk.max_events = "1_000" (aggregator.yaml:1): want a whole number, 1 to 1000000`,
		},
		"exponent":    {"apply: {workers: 1e1}", "want a whole number, 1 to 64"},
		"fraction":    {"apply: {workers: 4.0}", "want a whole number, 1 to 64"},
		"yes":         {"http: {pprof: yes}", `http.pprof = "yes" (aggregator.yaml:1): want one of true, false`},
		"seconds":     {"shutdown: {grace: 1_0}", "has no unit: write 1_0s"},
		"sexagesimal": {"shutdown: {grace: 1:30}", "want a duration"},
		"weight":      {"events: {weights: {LIKE: 0x10}}", "weight of LIKE: want a finite number"},
		"True":        {"http: {pprof: True}", ""},
		"zeros":       {"apply: {workers: 010}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			writeFile(t, "aggregator.yaml", tc.text)
			c, err := load(t)
			if tc.want != "" {
				requireOneLine(t, err, tc.want)
				return
			}
			require.NoError(t, err)
			if name == "zeros" { // as in AGGREGATOR_APPLY_WORKERS=010
				require.Equal(t, 10, c.Apply.Workers)
			}
		})
	}
}

func TestFileWithAliases(t *testing.T) {
	isolate(t)
	writeFile(t, "aggregator.yaml", `
apply: &few {workers: &n 7, profiles_per_transaction: 9}
runs: {keep: *n}
Source: {Key: &k 007, partitions: *n}
events: {weights: {like: *n, "FINISHED": 1}}
redis.mode: cluster
`)
	c, err := load(t)
	require.NoError(t, err)
	require.Equal(t, 7, c.Runs.Keep)
	require.Equal(t, "007", c.Source.Key)
	require.Equal(t, 7, c.Source.Partitions)
	require.Equal(t, map[string]float64{"LIKE": 7, "DISLIKE": -2, "FINISHED": 1}, c.Events.Weights)
	require.Equal(t, "cluster", c.Redis.Mode)

	writeFile(t, "aggregator.yaml", "cache: &c {books: 11, ttl: 1m}\ncache2: {<<: *c}\n")
	_, err = load(t)
	require.ErrorContains(t, err, "cache2.books (aggregator.yaml:1): no such setting")

	writeFile(t, "aggregator.yaml",
		"<<: [{apply: {workers: 5}}, {runs: {keep: 6}, apply: {workers: 8}}]\nruns: {keep: 3}\n")
	c, err = load(t)
	require.NoError(t, err)
	require.Equal(t, []int{5, 3}, []int{c.Apply.Workers, c.Runs.Keep})

	for _, within := range []string{"apply: &a {workers: *a}", "apply: &a [*a]", "apply: &a {<<: *a}"} {
		writeFile(t, "aggregator.yaml", within)
		_, err = load(t)
		require.ErrorContains(t, err, `"aggregator.yaml": yaml`, within)
	}
}
