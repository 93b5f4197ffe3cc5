package schedule_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"aggregator/internal/schedule"
)

func zone(t require.TestingT, name string) *time.Location {
	z, err := schedule.Zone(name)
	require.NoError(t, err)
	return z
}

func parse(t require.TestingT, expression, in string) schedule.Schedule {
	s, err := schedule.Parse(expression, zone(t, in))
	require.NoError(t, err)
	return s
}

func TestNext(t *testing.T) {
	for name, tc := range map[string]struct {
		expression, zone, from string
		want                   []string
	}{
		"nightly": {
			"30 2 * * *", "UTC", "2026-11-22T02:30:00Z",
			[]string{"2026-11-23T02:30:00Z", "2026-11-24T02:30:00Z"},
		},
		"in a zone": {
			"30 2 * * *", "Europe/Berlin", "2026-11-22T01:29:59Z",
			[]string{"2026-11-22T01:30:00Z", "2026-11-23T01:30:00Z"},
		},
		"own zone": {
			"CRON_TZ=Asia/Seoul 30 2 * * *", "Europe/Berlin", "2026-11-22T12:00:00Z",
			[]string{"2026-11-22T17:30:00Z"},
		},
		"descriptor": {"@weekly", "UTC", "2026-11-22T00:00:00Z", []string{"2026-11-29T00:00:00Z"}},
		"leap day": {
			"0 0 29 2 *", "UTC", "2026-11-22T00:00:00Z",
			[]string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"},
		},
		"day or week": {
			"0 0 13 * 5", "UTC", "2026-11-22T00:00:00Z",
			[]string{"2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z"},
		},

		// 2026-03-29: 01:59:59+01:00, then 03:00:00+02:00.
		"gap": {
			"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z",
			[]string{"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
		},
		"gap, both ends": {
			"0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z",
			[]string{"2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"},
		},
		"gap, inside": {
			"*/20 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z",
			[]string{"2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"},
		},
		"gap, every hour": {
			"30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z",
			[]string{"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"},
		},
		"no midnight": {
			"0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z",
			[]string{"2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
		},
		// 2026-10-25: 02:59:59+02:00, then 02:00:00+01:00.
		"twice": {
			"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
			[]string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		},
		"twice, in between": {"30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", []string{"2026-10-26T01:30:00Z"}},
		"twice, then three": {
			"30 2,3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
			[]string{"2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"},
		},
		"twice, every hour": {
			"30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z",
			[]string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"},
		},
		"half an hour": {
			"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z",
			[]string{"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := parse(t, tc.expression, tc.zone)
			at, err := time.Parse(time.RFC3339, tc.from)
			require.NoError(t, err)
			for _, want := range tc.want {
				at = s.Next(at)
				require.Equal(t, want, at.UTC().Format(time.RFC3339))
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for expression, want := range map[string]string{
		"0 0 30 2 *":                    "never due",
		"0 0 31 4,6,9,11 *":             "never due",
		"CRON_TZ=Europe/Berlin":         "want five fields",
		"CRON_TZ=":                      "want the name of a time zone",
		"CRON_TZ=Europe/Bonn 0 0 * * *": `"Europe/Bonn": want the name of a time zone`,
		"CRON_TZ=../x 0 0 * * *":        "want the name of a time zone",
		"TZ=UTC":                        "want five fields",
		"TZ=UTC 0 0 * * *":              "want five fields",
		"@every 1h":                     "want five fields",
		"@reboot":                       "want five fields",
		"0 0 * *":                       "want five fields",
		"0 0 0 * * *":                   "want five fields",
		"60 0 * * *":                    "want five fields",
		"0 0 * * 7":                     "want five fields",
		"nightly":                       "want five fields",
		"":                              "want five fields",
	} {
		_, err := schedule.Parse(expression, time.UTC)
		require.ErrorContains(t, err, want, expression)
		require.NotContains(t, err.Error(), "\n")
	}
}

func TestMissed(t *testing.T) {
	s := parse(t, "30 2 * * *", "UTC")
	at := func(day, hour int) time.Time { return time.Date(2026, 11, day, hour, 0, 0, 0, time.UTC) }
	for name, tc := range map[string]struct {
		last, now time.Time
		due       time.Time // zero: nothing was missed
	}{
		"never done":     {time.Time{}, at(22, 12), time.Time{}},
		"done":           {at(22, 3), at(22, 12), time.Time{}},
		"missed one":     {at(22, 2), at(22, 12), s.Next(at(22, 2))},
		"missed several": {at(1, 12), at(22, 12), s.Next(at(1, 12))},
		"at this moment": {at(22, 2), s.Next(at(22, 2)), s.Next(at(22, 2))},
		"done ahead":     {at(23, 3), at(22, 12), time.Time{}},
	} {
		due, missed := s.Missed(tc.last, tc.now)
		require.Equal(t, !tc.due.IsZero(), missed, name)
		if missed {
			require.Equal(t, tc.due, due, name)
		}
	}
}

// Whatever the expression, the zone and the moment: the next time is later, and there is
// none in between.
func TestNextIsNext(t *testing.T) {
	zones := []string{
		"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu",
		"America/Sao_Paulo", "Africa/Casablanca",
	}
	rapid.Check(t, func(t *rapid.T) {
		s, err := schedule.Parse(
			rapid.SampledFrom([]string{
				"30 2 * * *", "0 */6 * * *", "*/7 1-3 * * *", "5 * * * *", "0 0 * * *", "59 23 * * 0",
			}).Draw(t, "expression"),
			zone(t, rapid.SampledFrom(zones).Draw(t, "zone")))
		if err != nil {
			t.Fatal(err)
		}
		from := time.Unix(rapid.Int64Range(1_400_000_000, 2_000_000_000).Draw(t, "from"), 0)
		next := s.Next(from)
		if !next.After(from) {
			t.Fatalf("%s is not after %s", next, from)
		}
		between := from.Add(time.Duration(rapid.Float64Range(0, 1).Draw(t, "between") * float64(next.Sub(from)-1)))
		if got := s.Next(between); !got.Equal(next) {
			t.Fatalf("after %s %s, but after %s %s", from, next, between, got)
		}
		// Who waits for it does so as long as the clock goes on, and asks again when it went back.
		if got := s.Sooner(next, between); !got.Equal(next) {
			t.Fatalf("waiting for %s, at %s %s", next, between, got)
		}
		if got := s.Sooner(next, next.Add(between.Sub(from))); !got.Equal(next) {
			t.Fatalf("waiting for %s, when it has come %s", next, got)
		}
		back := from.Add(-time.Duration(rapid.Int64Range(0, int64(400*24*time.Hour)).Draw(t, "back")))
		if got := s.Sooner(next, back); !got.Equal(s.Next(back)) {
			t.Fatalf("waiting for %s, back at %s %s, but then it is due at %s", next, back, got, s.Next(back))
		}
	})
}
