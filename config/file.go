package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

const fileVariable = "AGGREGATOR_CONFIG"

var usualFiles = []string{"aggregator.yaml", "/etc/aggregator/aggregator.yaml"}

// file is the settings file: its name, empty for none, and in which line each key stands.
type file struct {
	name  string
	lines map[string]int
}

// at is where a key is set: aggregator.yaml:12.
func (f file) at(key string) string {
	if line, found := f.lines[key]; found {
		return fmt.Sprintf("%s:%d", f.name, line)
	}
	return f.name
}

// readFile reads the settings file into v. A file that was named, by --config or
// AGGREGATOR_CONFIG, must exist.
func readFile(v *viper.Viper, flags *pflag.FlagSet) (file, error) {
	name, namedBy := os.Getenv(fileVariable), fileVariable
	if flags != nil && flags.Changed("config") {
		name, namedBy = flags.Lookup("config").Value.String(), "--config"
	}
	if name != "" || namedBy == "--config" {
		return readYAML(v, name, namedBy+" = ")
	}
	for _, name := range usualFiles {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return readYAML(v, name, "")
		}
	}
	return file{}, nil
}

func readYAML(v *viper.Viper, name, namedBy string) (file, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return file{}, invalidf("%s%q: %w", namedBy, name, errors.Unwrap(err))
	}
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(text)); err != nil {
		return file{}, invalidf("%s%q: %s", namedBy, name, yamlReason(err))
	}
	f := file{name, map[string]int{}}
	var document yaml.Node
	if yaml.Unmarshal(text, &document) == nil && len(document.Content) > 0 {
		f.addLines("", document.Content[0])
	}
	return f, nil
}

// addLines notes the keys of a mapping and of those within it, in the form that viper has
// them.
func (f file) addLines(prefix string, mapping *yaml.Node) {
	if mapping.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key := mapping.Content[i]
		name := prefix + strings.ToLower(key.Value)
		f.lines[name] = key.Line
		f.addLines(name+".", mapping.Content[i+1])
	}
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
func unknownKeys(v *viper.Viper, f file) []error {
	keys := v.AllKeys()
	slices.Sort(keys)
	var all []error
	for _, key := range keys {
		if isSetting(key) || isSection(key) && v.Get(key) == nil {
			continue
		}
		if isSection(key) {
			all = append(all, invalidf("%s (%s): want a section with settings, not a value", key, f.at(key)))
			continue
		}
		all = append(all, invalidf("%s (%s): no such setting%s", key, f.at(key), suggest(key, settingKeys())))
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
