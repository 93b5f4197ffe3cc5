package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"aggregator/internal/appschema"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
)

// value is a field of a Config as one kind of setting. Set leaves the field alone when it
// returns an error, and takes what String returns.
type value interface {
	Set(text string) error
	String() string
	Allowed() string // for people: "1 to 64"
}

const noLimit = time.Duration(math.MaxInt64)

type choice struct {
	p  *string
	of []string
}

func (v choice) String() string  { return *v.p }
func (v choice) Allowed() string { return strings.Join(v.of, ", ") }

func (v choice) Set(text string) error {
	if !slices.Contains(v.of, text) {
		return fmt.Errorf("want one of %s", v.Allowed())
	}
	*v.p = text
	return nil
}

// preference is the rule by which genres and topics become favorites.
type preference struct{ p *scores.Preference }

func (v preference) String() string  { return string(*v.p) }
func (v preference) Allowed() string { return v.choice().Allowed() }

func (v preference) choice() choice {
	c := choice{p: new(string)}
	for _, rule := range scores.Preferences {
		c.of = append(c.of, string(rule))
	}
	return c
}

func (v preference) Set(text string) error {
	if err := v.choice().Set(text); err != nil {
		return err
	}
	*v.p = scores.Preference(text)
	return nil
}

type boolean struct{ p *bool }

func (v boolean) String() string  { return strconv.FormatBool(*v.p) }
func (v boolean) Allowed() string { return "true, false" }

func (v boolean) Set(text string) error {
	switch strings.ToLower(text) { // YAML also knows True and TRUE
	case "true":
		*v.p = true
	case "false":
		*v.p = false
	default:
		return fmt.Errorf("want one of %s", v.Allowed())
	}
	return nil
}

type integer struct {
	p        *int
	min, max int
}

func (v integer) String() string  { return strconv.Itoa(*v.p) }
func (v integer) Allowed() string { return fmt.Sprintf("%d to %d", v.min, v.max) }

func (v integer) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < v.min || n > v.max {
		return fmt.Errorf("want a whole number, %s", v.Allowed())
	}
	*v.p = n
	return nil
}

// groupSize is how many profiles share a transaction; 0 is auto.
type groupSize struct{ p *int }

func (v groupSize) number() integer { return integer{v.p, 1, 2000} }
func (v groupSize) Allowed() string { return "auto, or " + v.number().Allowed() }

func (v groupSize) String() string {
	if *v.p == 0 {
		return "auto"
	}
	return v.number().String()
}

func (v groupSize) Set(text string) error {
	if text == "auto" {
		*v.p = 0
		return nil
	}
	if err := v.number().Set(text); err != nil {
		return fmt.Errorf("want %s", v.Allowed())
	}
	return nil
}

// share is a part of a whole.
type share struct{ p *float64 }

func (v share) String() string  { return strconv.FormatFloat(*v.p, 'f', -1, 64) }
func (v share) Allowed() string { return "0 to 1" }

func (v share) Set(text string) error {
	part, err := strconv.ParseFloat(text, 64)
	if err != nil || !(part >= 0 && part <= 1) { // NaN is neither
		return fmt.Errorf("want a number, %s", v.Allowed())
	}
	*v.p = part
	return nil
}

type duration struct {
	p        *time.Duration
	min, max time.Duration
}

func (v duration) String() string { return shortDuration(*v.p) }

func (v duration) Allowed() string {
	if v.max == noLimit {
		return shortDuration(v.min) + " or more"
	}
	return shortDuration(v.min) + " to " + shortDuration(v.max)
}

func (v duration) Set(text string) error { return v.parse(text, v.Allowed()) }

func (v duration) parse(text, allowed string) error {
	if _, err := strconv.ParseFloat(text, 64); err == nil && text != "0" {
		return fmt.Errorf("has no unit: write %ss for seconds, or ms, m, h", text)
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < v.min || d > v.max {
		return fmt.Errorf("want a duration such as 20ms, 5s or 1h30m, %s", allowed)
	}
	*v.p = d
	return nil
}

// durationOrNone is a duration within limits, or 0s for what it stands for.
type durationOrNone struct{ duration }

func (v durationOrNone) Allowed() string { return "0s, or " + v.duration.Allowed() }

func (v durationOrNone) Set(text string) error {
	if d, err := time.ParseDuration(text); err == nil && d == 0 {
		*v.p = 0
		return nil
	}
	return v.parse(text, v.Allowed())
}

// shortDuration writes 10m where Go writes 10m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// listenAddr is where to listen for connections; empty is nowhere.
type listenAddr struct{ p *string }

func (v listenAddr) String() string  { return *v.p }
func (v listenAddr) Allowed() string { return "host:port, or empty" }

func (v listenAddr) Set(text string) error {
	if text != "" {
		_, port, err := net.SplitHostPort(text)
		if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil {
			return errors.New("want host:port, such as 127.0.0.1:9464, or nothing")
		}
	}
	*v.p = text
	return nil
}

// putAside are the names that a reset gives to the dead letters of before (deadletter.Aside).
var putAside = regexp.MustCompile(`@[0-9]+$`)

// keyName is the name of a key in Redis; empty for the one that goes with the kind.
type keyName struct{ p *string }

func (v keyName) String() string  { return *v.p }
func (v keyName) Allowed() string { return "a Redis key" }

func (v keyName) Set(text string) error {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return errors.New("want a key without control characters")
	}
	if putAside.MatchString(text) {
		return errors.New("want a key that does not end with @ and a number: such names are for dead letters that a reset " +
			"archived")
	}
	*v.p = text
	return nil
}

// instanceName is the name of an instance; empty for one that is made up.
type instanceName struct{ p *string }

func (v instanceName) String() string  { return *v.p }
func (v instanceName) Allowed() string { return "up to 200 letters, digits and signs, without spaces" }

func (v instanceName) Set(text string) error {
	if !utf8.ValidString(text) || len(text) > 200 ||
		strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }) {
		return errors.New("want " + v.Allowed())
	}
	*v.p = text
	return nil
}

// fileName is the name of a file, which is read elsewhere; empty for none.
type fileName struct{ p *string }

func (v fileName) String() string  { return *v.p }
func (v fileName) Allowed() string { return "the name of a file" }

func (v fileName) Set(text string) error {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("want the name of a file, without control characters")
	}
	*v.p = text
	return nil
}

// schemaName is the name of a schema of the application's; empty for one that is found.
type schemaName struct{ p *string }

func (v schemaName) String() string  { return *v.p }
func (v schemaName) Allowed() string { return "the name of a schema" }

func (v schemaName) Set(text string) error {
	switch {
	case text == appschema.Ours, text == appschema.ViewSchema, strings.HasPrefix(text, "pg_"),
		text == "information_schema":
		return fmt.Errorf("want %s of the application's", v.Allowed())
	case len(text) > 63, !utf8.ValidString(text), strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("want %s, up to 63 bytes, without quotes around it", v.Allowed())
	}
	*v.p = text
	return nil
}

// tableNames are tables' own names by ours, as in book=books,genre_score=scores.
type tableNames struct{ p *appschema.Names }

func (v tableNames) String() string {
	var all []string
	for _, ours := range slices.Sorted(maps.Keys(*v.p)) {
		all = append(all, ours+"="+(*v.p)[ours])
	}
	return strings.Join(all, ",")
}

func (v tableNames) Allowed() string { return "pairs as in book=books,genre_score=scores" }

func (v tableNames) Set(text string) error {
	names := appschema.Names{}
	for pair := range strings.SplitSeq(text, ",") {
		ours, own, paired := strings.Cut(strings.TrimSpace(pair), "=")
		switch {
		case strings.TrimSpace(text) == "":
			continue
		case !paired || own == "":
			return fmt.Errorf("want %s, not %q", v.Allowed(), pair)
		case !slices.Contains(appschema.Known(), ours):
			return fmt.Errorf("there is no table %q; want one of %s before the equals sign", ours,
				strings.Join(appschema.Known(), ", "))
		case names[ours] != "":
			return fmt.Errorf("%s is there twice", ours)
		case len(own) > 63, !utf8.ValidString(own), strings.ContainsFunc(own, unicode.IsControl):
			return fmt.Errorf("the name of a table has up to 63 bytes, and no quotes around it")
		}
		names[ours] = own
	}
	*v.p = nil
	if len(names) > 0 {
		*v.p = names
	}
	return nil
}

// hostName is the name of a host; empty for none.
type hostName struct{ p *string }

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9._:-]*$`)

func (v hostName) String() string  { return *v.p }
func (v hostName) Allowed() string { return "the name or address of a host" }

func (v hostName) Set(text string) error {
	if !hostPattern.MatchString(text) {
		return fmt.Errorf("want %s", v.Allowed())
	}
	*v.p = text
	return nil
}

// weights is the weight of each action: LIKE=2,FINISHED=3. What it names is added to the
// defaults.
type weights struct{ p *map[string]float64 }

var actionName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

func (v weights) Allowed() string { return "ACTION=number, separated by commas" }

func (v weights) String() string {
	var list []string
	for _, action := range slices.Sorted(maps.Keys(*v.p)) {
		list = append(list, action+"="+formatWeight((*v.p)[action]))
	}
	return strings.Join(list, ",")
}

func (v weights) Set(text string) error {
	all := maps.Clone(defaultWeights)
	seen := map[string]bool{}
	for item := range strings.SplitSeq(text, ",") {
		if text == "" {
			break
		}
		action, number, ok := strings.Cut(item, "=")
		action = strings.TrimSpace(action)
		if !ok {
			return fmt.Errorf("%q: want %s", item, v.Allowed())
		}
		if !actionName.MatchString(action) {
			return fmt.Errorf("action %q: want capital letters, digits and _, a letter first", action)
		}
		if seen[action] {
			return fmt.Errorf("action %s is given twice", action)
		}
		seen[action] = true
		w, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || math.IsInf(w, 0) || math.IsNaN(w) {
			return fmt.Errorf("weight of %s: want a finite number", action)
		}
		all[action] = w
	}
	*v.p = all
	return nil
}

func formatWeight(w float64) string { return strconv.FormatFloat(w, 'f', -1, 64) }

type postgresURL struct{ p *URL }

func (v postgresURL) String() string  { return string(*v.p) }
func (v postgresURL) Allowed() string { return "a postgres:// URL, or libpq's keyword=value" }

func (v postgresURL) Set(text string) error {
	if err := postgres.CheckURL(text); err != nil {
		return err
	}
	*v.p = URL(text)
	return nil
}
