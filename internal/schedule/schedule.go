// Package schedule says when a job is due, by a cron expression in a time zone. It knows
// the clock from its callers only.
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // the machine may have no time zones

	"github.com/robfig/cron/v3"
)

// Schedule says when a job is due.
//
// On days when the clocks change, a job that is due at certain hours is due once: a time
// that is skipped falls on the end of the gap, and one that comes twice is due the first
// time. A job that is due every hour, whatever the hour, goes by the hours that there are.
type Schedule struct {
	spec *cron.SpecSchedule
	zone *time.Location
}

const zonePrefix = "CRON_TZ="

// The library's own reading of a zone, which ends the process over one that is not
// followed by a space, never comes to pass. Nor does @every, which begins again with each
// start.
var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// Parse reads the five fields of a cron expression (minute, hour, day of the month, month,
// day of the week), or @hourly, @daily, @weekly, @monthly or @yearly. CRON_TZ=Europe/Berlin
// before it says in which time zone, else it is zone. What will never be due is an error.
func Parse(expression string, zone *time.Location) (Schedule, error) {
	text := strings.TrimSpace(expression)
	if rest, found := strings.CutPrefix(text, zonePrefix); found {
		name, fields, _ := strings.Cut(rest, " ")
		var err error
		if zone, err = Zone(name); err != nil {
			return Schedule{}, err
		}
		text = strings.TrimSpace(fields)
	}
	if strings.Contains(text, "=") || strings.HasPrefix(text, "@every") || text == "" {
		return Schedule{}, errWant
	}
	parsed, err := parser.Parse(text)
	if err != nil {
		return Schedule{}, fmt.Errorf("%w: %w", errWant, err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return Schedule{}, errWant
	}
	s := Schedule{spec, zone}
	// Any day and weekday that there is comes within five years of this one.
	if s.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Schedule{}, errors.New("it is never due: there is no such day")
	}
	return s, nil
}

var errWant = errors.New(
	`want five fields such as "30 2 * * *" (minute, hour, day, month, weekday), CRON_TZ=Europe/Berlin before them if ` +
		`need be, or @daily`)

// Zone finds a time zone by its name, such as Europe/Berlin, UTC, or Local for that of
// the machine.
func Zone(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" {
		return nil, fmt.Errorf("%q: want the name of a time zone, such as Europe/Berlin, UTC or Local", name)
	}
	return zone, nil
}

// Next returns the first time after t when the job is due.
func (s Schedule) Next(t time.Time) time.Time {
	const anyHour = 1 << 63 // the library's mark of a *
	spec := *s.spec
	if spec.Hour&anyHour != 0 {
		spec.Location = s.zone
		return spec.Next(t).In(time.UTC)
	}
	// The library looks for the next time on a clock on the wall that never changes, and
	// we for when the clocks of the zone come to show it.
	spec.Location = time.UTC
	wall := onWall(t.In(s.zone))
	for {
		wall = spec.Next(wall)
		if wall.IsZero() {
			return wall
		}
		if at := s.when(wall); at.After(t) {
			return at
		}
	}
}

// onWall is what the clock on the wall shows, as if there were no zones.
func onWall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// when is the first instant at which the clocks of the zone show this, or pass it over.
func (s Schedule) when(wall time.Time) time.Time {
	const day = 24 * time.Hour
	offset := func(t time.Time) time.Duration {
		_, seconds := t.In(s.zone).Zone()
		return time.Duration(seconds) * time.Second
	}
	before, after := wall.Add(-offset(wall.Add(-day))), wall.Add(-offset(wall.Add(day)))
	switch {
	case onWall(before.In(s.zone)).Equal(wall):
		return before
	case onWall(after.In(s.zone)).Equal(wall):
		return after
	}
	gap, _ := before.In(s.zone).ZoneBounds()
	return gap.In(time.UTC)
}

// Sooner returns when the job is due for a caller who waits for due, and whose clock now says now:
// at due, or before it if the schedule has a time in between. Then the clock was ahead when it
// told due, and has been set back since.
func (s Schedule) Sooner(due, now time.Time) time.Time {
	if next := s.Next(now); next.Before(due) {
		return next
	}
	return due
}

// Missed returns when the job was due first after it was last done, and false if that is
// still to come. A job that was never done has missed nothing.
func (s Schedule) Missed(last, now time.Time) (time.Time, bool) {
	if last.IsZero() {
		return time.Time{}, false
	}
	due := s.Next(last)
	return due, !due.After(now)
}
