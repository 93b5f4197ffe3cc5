package config

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/pflag"
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
	all := unknownVariables(os.Environ())
	file, errs := readFile(flags)
	all = append(all, errs...)
	given := givenFlags(flags)
	c := Config{origin: map[string]string{}, file: file.name}
	for _, s := range settings {
		text, origin, err := s.find(given, file)
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

// LogFormat is log.format as far as it can be told, also when other settings are wrong; else the
// default. flags may be nil.
func LogFormat(flags *pflag.FlagSet) string {
	var c Config
	file, _ := readFile(flags)
	s := settings[slices.IndexFunc(settings, func(s setting) bool { return s.Key == "log.format" })]
	text, _, err := s.find(givenFlags(flags), file)
	if err != nil || s.value(&c).Set(text) != nil {
		return s.Default
	}
	return c.Log.Format
}

// Given says whether a setting has a value that is not by default.
func (c Config) Given(key string) bool { return c.origin[key] != "" && c.origin[key] != "default" }

// File is the name of the settings file that was read; empty: none was.
func (c Config) File() string { return c.file }

// givenFlags are the values of the flags that were given, by name.
func givenFlags(flags *pflag.FlagSet) map[string]string {
	given := map[string]string{}
	if flags != nil {
		flags.Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
	}
	return given
}

// find returns the value of the setting and where it is from.
func (s setting) find(flags map[string]string, f file) (text, origin string, err error) {
	if text, ok := flags[s.Flag()]; ok {
		return text, "flag --" + s.Flag(), nil
	}
	if text, ok := os.LookupEnv(s.Env()); ok && (text != "" || s.Emptiable) {
		return text, "env " + s.Env(), nil
	}
	if s.Fallback != "" && os.Getenv(s.Fallback) != "" {
		return os.Getenv(s.Fallback), "env " + s.Fallback, nil
	}
	if e, ok := f.entries[s.Key]; ok {
		return f.values.GetString(s.Key), f.at(e.line), e.err
	}
	return s.Default, "default", nil
}
