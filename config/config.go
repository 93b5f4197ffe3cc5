// Package config holds the settings: their names, defaults and limits, where they come
// from, and how they are shown. What a setting is called and what it may be is written
// once, in the table in settings.go.
package config

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"aggregator/internal/appschema"
	"aggregator/internal/scores"
)

// ErrInvalid is in every error about a setting, an unknown setting or the file.
var ErrInvalid = errors.New("invalid configuration")

// Stay is the value of run.on_halt with which a service that has halted does not exit.
const Stay = "stay"

// Config is what Load returns: every setting, within its limits.
type Config struct {
	Redis struct {
		URL     URL
		URLFile string // where URL was read from; empty for another origin
		Mode    string // one of redisModes: what the URL leads to

		// Names of files, in PEM form; only with a rediss:// URL. See RedisTLS.
		TLSCAFile     string
		TLSCertFile   string
		TLSKeyFile    string
		TLSServerName string // as the certificate has it; empty: the host of the URL
	}
	Postgres struct {
		URL     URL // empty: libpq's PG* variables say where
		URLFile string
		Schema  string // of the application's tables; empty: found on the search path
		Tables  appschema.Names
		Pooler  string // none or transaction
		Kind    string // auto, postgresql or citus

		TimeZone string // of the sessions; empty: as the server has it for the role and the database
	}

	Source struct {
		Kind       string // stream or list
		Key        string
		PushSide   string // left or right: where producers add to a list
		Partitions int
	}
	Events struct {
		Weights  map[string]float64 // by action
		Coalesce string             // none or last
	}
	Chunk struct {
		MaxEvents int
		MaxWait   time.Duration
	}
	Apply struct {
		Workers                int
		ProfilesPerTransaction int // 0: auto
	}
	History struct{ Preferred scores.Preference }
	Journal struct{ Keep time.Duration } // 0: there is none
	Dead    struct {
		MaxShare        float64
		Window          int
		RetryUnknownFor time.Duration
		RetryEvery      time.Duration
		Keep            time.Duration // of those that are settled; 0: without limit
	}
	Trim  struct{ Retain time.Duration }
	Cache struct {
		Books    int
		Profiles int
		TTL      time.Duration
	}
	Purge     struct{ OlderThan time.Duration }
	Retention struct {
		AllDays   int // 0: rows of history are kept without limit
		DailyDays int
	}
	Shutdown struct{ Grace time.Duration }
	Lease    struct {
		TTL  time.Duration // 0: none
		Name string        // of the instance; empty: one that is made up
	}
	Run      struct{ OnHalt string } // exit or stay
	Runs     struct{ Keep int }      // of each kind
	Schedule struct {
		// Cron expressions, of jobs that run does by itself at these times; empty: never.
		Drain      string // empty: all the time
		Purge      string
		SearchText string

		TimeZone string // of expressions that name none
	}
	HTTP struct {
		Addr  string   // host:port; empty: none
		Hosts []string // further names of it

		// How to log in; see Access. The files are read by it, not by Load.
		UsersFile      string
		TokensFile     string
		TrustedHeader  string
		TrustedProxies []netip.Prefix
		Operators      []string

		TLSCertFile string // see HTTPCertificate
		TLSKeyFile  string
		Pprof       bool
	}
	Log struct {
		Level  string // debug, info, warn or error
		Format string // auto, text, json or journal
	}

	origin map[string]string // by key: where the value came from
	file   string            // that was read; empty: none
}

// Default returns the settings of a program that was told nothing.
func Default() Config {
	var c Config
	for _, s := range settings {
		if err := s.value(&c).Set(s.Default); err != nil {
			panic("config: the default of " + s.Key + ": " + err.Error())
		}
	}
	c.resolve()
	return c
}

// resolve fills in the defaults that depend on other settings.
func (c *Config) resolve() {
	if c.Source.Key == "" {
		c.Source.Key = defaultKeys[c.Source.Kind]
	}
}

// Validate says everything that is wrong with the settings, by errors with ErrInvalid, one
// line for each. Load has done this already: it is for a Config built by hand.
func (c Config) Validate() error {
	var all []error
	for _, s := range settings {
		v := s.value(&c)
		if err := v.Set(v.String()); err != nil {
			all = append(all, s.invalid("", v.String(), err))
		}
	}
	if len(all) == 0 {
		all = append(all, c.conflicts()...)
	}
	return errors.Join(all...)
}

// conflicts are the settings that are wrong only together.
func (c Config) conflicts() []error {
	var all []error
	// The partitions of a key put braces around their number, so that Redis Cluster can
	// spread them; the first pair in a name counts.
	if strings.ContainsAny(c.Source.Key, "{}") && c.Source.Partitions > 1 {
		all = append(all, invalidf("source.key = %q: braces are allowed only with one partition", c.Source.Key))
	}
	if c.Retention.DailyDays < c.Retention.AllDays {
		all = append(all, invalidf(
			"retention.daily_days = \"%d\": want at least retention.all_days, %d", c.Retention.DailyDays, c.Retention.AllDays))
	}
	if _, err := c.Schedules(); err != nil {
		all = append(all, err)
	}
	if err := c.checkRedisURL(); err != nil {
		all = append(all, err)
	}
	if _, err := c.RedisTLS(); err != nil {
		all = append(all, err)
	}
	return append(all, c.httpConflicts()...)
}
