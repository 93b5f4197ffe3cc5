package config

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

const fileVariable = "AGGREGATOR_CONFIG"

var usualFiles = []string{"aggregator.yaml", "/etc/aggregator/aggregator.yaml"}

// readFile reads the settings file into v and returns its name, empty for none. A file
// that was named, by --config or AGGREGATOR_CONFIG, must exist.
func readFile(v *viper.Viper, flags *pflag.FlagSet) (string, error) {
	name, namedBy := os.Getenv(fileVariable), fileVariable
	if flags != nil && flags.Changed("config") {
		name, namedBy = flags.Lookup("config").Value.String(), "--config"
	}
	if name != "" || namedBy == "--config" {
		return name, readYAML(v, name, namedBy+" = ")
	}
	for _, name := range usualFiles {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return name, readYAML(v, name, "")
		}
	}
	return "", nil
}

func readYAML(v *viper.Viper, name, namedBy string) error {
	f, err := os.Open(name)
	if err != nil {
		return invalidf("%s%q: %w", namedBy, name, errors.Unwrap(err))
	}
	defer f.Close()
	v.SetConfigType("yaml")
	if err := v.ReadConfig(f); err != nil {
		return invalidf("%s%q: %s", namedBy, name, yamlReason(err))
	}
	return nil
}

// yamlReason is the parser's error in one line. Where it would quote the file, which may
// hold a password, it says less.
func yamlReason(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if strings.Contains(text, "cannot unmarshal") {
		return "want sections with settings, as in the sample"
	}
	return strings.TrimPrefix(text, "While parsing config: ")
}

// unknownKeys are the errors of keys in the file that are no settings. An empty section is
// none: all in it may be commented out.
func unknownKeys(v *viper.Viper, file string) []error {
	keys := v.AllKeys()
	slices.Sort(keys)
	var all []error
	for _, key := range keys {
		if isSetting(key) || isSection(key) && v.Get(key) == nil {
			continue
		}
		if isSection(key) {
			all = append(all, invalidf("%s (%s): want a section with settings, not a value", key, file))
			continue
		}
		all = append(all, invalidf("%s (%s): no such setting%s", key, file, suggest(key, settingKeys())))
	}
	return all
}

func isSetting(key string) bool {
	return slices.ContainsFunc(settings, func(s setting) bool {
		// a value below a setting is that setting's to refuse
		return key == s.Key || strings.HasPrefix(key, s.Key+".")
	})
}

func isSection(key string) bool {
	return slices.ContainsFunc(settings, func(s setting) bool { return strings.HasPrefix(s.Key, key+".") })
}

func settingKeys() []string {
	var keys []string
	for _, s := range settings {
		keys = append(keys, s.Key)
	}
	return keys
}
