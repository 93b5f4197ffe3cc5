package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

const envPrefix = "AGGREGATOR_"

// invalidf is an error with ErrInvalid, in one line.
func invalidf(format string, args ...any) error {
	return &invalid{fmt.Errorf(format, args...)}
}

type invalid struct{ error }

func (e *invalid) Unwrap() []error { return []error{ErrInvalid, e.error} }

// AddFlags adds --config, and a flag for each setting that is no secret.
func AddFlags(flags *pflag.FlagSet) {
	flags.String("config", "", "`file` with settings (default ./aggregator.yaml, else /etc/aggregator/aggregator.yaml)")
	for _, s := range settings {
		if s.secret() {
			continue
		}
		flags.Var(&flagText{kind: kindOf(s.value(new(Config)))}, s.Flag(), firstSentence(s.Doc)+defaultNote(s))
	}
}

// flagText is a flag as it was given: Load judges it, as it does what comes from elsewhere.
type flagText struct{ text, kind string }

func (f *flagText) String() string        { return f.text }
func (f *flagText) Type() string          { return f.kind }
func (f *flagText) Set(text string) error { f.text = text; return nil }

// Load reads the settings: from the flags that were given, then AGGREGATOR_* variables,
// then the file, then the defaults. flags may be nil.
//
// Its error has ErrInvalid and names everything that is wrong, a line for each. It never
// holds a secret.
func Load(flags *pflag.FlagSet) (Config, error) {
	v := viper.New()
	all := unknownVariables(os.Environ())
	file, err := readFile(v, flags)
	if err != nil {
		return Config{}, errors.Join(append(all, err)...)
	}
	all = append(all, unknownKeys(v, file)...)

	given := givenFlags(flags)
	c := Config{origin: map[string]string{}}
	for _, s := range settings {
		origin := s.bind(v, file, given)
		raw := v.Get(s.Key)
		if raw == nil { // the file has a value for the whole section, an error by now
			continue
		}
		text, err := s.text(raw)
		if err == nil {
			err = s.value(&c).Set(text)
		}
		if err != nil {
			all = append(all, s.invalid(origin, text, err))
		}
		c.origin[s.Key] = origin
	}
	if len(all) == 0 {
		all = c.readSecrets()
	}
	if len(all) > 0 {
		return Config{}, errors.Join(all...)
	}
	c.resolve()
	if err := errors.Join(c.conflicts()...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// givenFlags are the values of the flags that were given, by name.
func givenFlags(flags *pflag.FlagSet) map[string]string {
	given := map[string]string{}
	if flags != nil {
		flags.Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
	}
	return given
}

// bind tells viper where the setting may come from, and returns where it does.
func (s setting) bind(v *viper.Viper, f file, flags map[string]string) string {
	inFile := v.Get(s.Key) != nil // nothing but the file is known to viper yet
	names := []string{s.Env()}
	if s.Fallback != "" {
		names = append(names, s.Fallback)
	}
	v.SetDefault(s.Key, s.Default)
	_ = v.BindEnv(append([]string{s.Key}, names...)...) // fails only without a key
	if text, ok := flags[s.Flag()]; ok {
		v.Set(s.Key, text)
		return "flag --" + s.Flag()
	}
	if text, ok := os.LookupEnv(s.Env()); ok && text == "" && s.Emptiable {
		v.Set(s.Key, text)
		return "env " + s.Env()
	}
	for _, name := range names {
		if os.Getenv(name) != "" {
			return "env " + name
		}
	}
	if inFile {
		return f.at(s.Key)
	}
	return "default"
}

// text brings a value of the file into the form that variables and flags have. Only
// events.weights may be a mapping; viper has its keys in lower case.
func (s setting) text(raw any) (string, error) {
	switch raw := raw.(type) {
	case map[string]any:
		if s.Key != "events.weights" {
			break
		}
		var list []string
		for _, action := range slices.Sorted(maps.Keys(raw)) {
			list = append(list, fmt.Sprintf("%s=%v", strings.ToUpper(action), raw[action]))
		}
		return strings.Join(list, ","), nil
	case []any:
	default:
		return fmt.Sprint(raw), nil
	}
	return "", errors.New("want a single value")
}
