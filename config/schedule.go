package config

import (
	"fmt"
	"time"

	"aggregator/internal/schedule"
)

// cronExpression says when to do something; empty is never.
type cronExpression struct{ p *string }

func (v cronExpression) String() string  { return *v.p }
func (v cronExpression) Allowed() string { return "a cron expression, or empty" }

func (v cronExpression) Set(text string) error {
	if text != "" {
		if _, err := schedule.Parse(text, time.UTC); err != nil {
			return err
		}
	}
	*v.p = text
	return nil
}

// timeZone is the name of one.
type timeZone struct{ p *string }

func (v timeZone) String() string  { return *v.p }
func (v timeZone) Allowed() string { return "the name of a time zone" }

func (v timeZone) Set(text string) error {
	if _, err := schedule.Zone(text); err != nil {
		return err
	}
	*v.p = text
	return nil
}

// sessionZone is the time zone of the sessions of PostgreSQL; empty for that of the server.
type sessionZone struct{ p *string }

func (v sessionZone) String() string  { return *v.p }
func (v sessionZone) Allowed() string { return "the name of a time zone, or empty" }

func (v sessionZone) Set(text string) error {
	// Local means a zone to Go alone, and PostgreSQL takes a name in any case.
	if _, err := time.LoadLocation(text); err != nil || text == "Local" {
		return fmt.Errorf("%q: want the name of a time zone, such as Asia/Seoul or UTC, or nothing", text)
	}
	*v.p = text
	return nil
}

// Schedules returns when the jobs are due that have a schedule, by kind. Its error has
// ErrInvalid, and is of a Config built by hand only.
func (c Config) Schedules() (map[string]schedule.Schedule, error) {
	zone, err := schedule.Zone(c.Schedule.TimeZone)
	if err != nil {
		return nil, invalidf("schedule.time_zone: %w", err)
	}
	all := map[string]schedule.Schedule{}
	for kind, expression := range map[string]string{
		"drain":       c.Schedule.Drain,
		"purge":       c.Schedule.Purge,
		"search_text": c.Schedule.SearchText,
	} {
		if expression == "" {
			continue
		}
		if all[kind], err = schedule.Parse(expression, zone); err != nil {
			return nil, invalidf("schedule.%s: %w", kind, err)
		}
	}
	return all, nil
}
