package page

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"aggregator/internal/events"
	"aggregator/internal/terminal"
)

// functions are those of the templates.
var functions = template.FuncMap{
	"count":   func(n int64) string { return terminal.Grouped(n) },
	"number":  func(n int) string { return terminal.Grouped(int64(n)) },
	"plural":  func(n int64, one string, many ...string) string { return terminal.Count(n, one, many...) },
	"age":     age,
	"rate":    func(perSecond float64) string { return terminal.Grouped(int64(math.Round(perSecond))) + "/s" },
	"score":   score,
	"signed":  func(f float64) string { return fmt.Sprintf("%+g", f) },
	"link":    link,
	"dash":    func(text string) string { return cmp.Or(text, "–") },
	"join":    strings.Join,
	"bands":   newBands,
	"changes": newChanges,
	"words":   func(r any) string { return strings.ReplaceAll(fmt.Sprint(r), "_", " ") },
}

// link is a page of ours, with the parameters that are not empty.
func link(page string, pairs ...any) string {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		value := pairs[i+1]
		if id, is := value.(*int64); is {
			value = *id
		}
		if text := fmt.Sprint(value); text != "" {
			values.Add(fmt.Sprint(pairs[i]), text)
		}
	}
	if len(values) == 0 {
		return "./" + page
	}
	return "./" + page + "?" + values.Encode()
}

func score(f float64) string {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return "–"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// age is a time span for people: 1.5 s, 3 min, 4 h, 2 days.
func age(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

// stamp is a moment as it is shown.
type stamp struct{ Text, ISO string }

// At is a moment in the time zone of the view; none is a dash.
func (v *view) At(t any) stamp {
	var at time.Time
	switch t := t.(type) {
	case time.Time:
		at = t
	case *time.Time:
		if t != nil {
			at = *t
		}
	}
	if at.IsZero() {
		return stamp{Text: "–"}
	}
	return stamp{at.In(v.Zone).Format("2006-01-02 15:04:05"), at.UTC().Format(time.RFC3339Nano)}
}

// Ago is how long ago a moment was; empty if there was none.
func (v *view) Ago(t any) string {
	switch t := t.(type) {
	case time.Time:
		if !t.IsZero() {
			return age(v.Now.Sub(t)) + " ago"
		}
	case *time.Time:
		if t != nil {
			return age(v.Now.Sub(*t)) + " ago"
		}
	}
	return ""
}

// ZoneName is the zone in which times are shown.
func (v *view) ZoneName() string {
	if name := v.Zone.String(); name != "Local" {
		return name
	}
	return "local time of the server"
}

// profileID reads the id of a child profile.
func profileID(text string) (int64, error) {
	id, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || id < 0 {
		return 0, badRequest("%q is not the id of a child profile: want a whole number.", text)
	}
	return id, nil
}

func position(text string) (events.Position, error) {
	at, err := events.ParsePosition(text)
	if err != nil {
		return at, badRequest("%q is not a position: want one such as 1761985000123-0.", text)
	}
	return at, nil
}

const zoneCookie = "aggregator_zone"

// commonZones are offered; any other name is taken as well.
var commonZones = []string{
	"UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/Los_Angeles", "America/Sao_Paulo",
	"Africa/Lagos", "Asia/Kolkata", "Asia/Seoul", "Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney",
}

// zoneOf is the time zone that a browser has chosen.
func zoneOf(r *http.Request, otherwise *time.Location) *time.Location {
	cookie, err := r.Cookie(zoneCookie)
	if err != nil {
		return otherwise
	}
	if zone, err := loadZone(cookie.Value); err == nil {
		return zone
	}
	return otherwise
}

func loadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, badRequest("%q is not a time zone: want one such as Europe/Berlin.", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, badRequest("%q is not a time zone: want one such as Europe/Berlin.", name)
	}
	return zone, nil
}

// zone remembers a time zone in the browser, and goes back.
func (p *Page) zone(v *view) error {
	zone, err := loadZone(strings.TrimSpace(v.r.PostFormValue("name")))
	if err != nil {
		return err
	}
	// Without a path it is for all pages of ours, whatever the prefix.
	http.SetCookie(v.w, &http.Cookie{
		Name: zoneCookie, Value: zone.String(), MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	return goBack(v.r.PostForm)
}
