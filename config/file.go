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

// file is the settings file: its name, empty for none, what it sets, and where, by the key of the
// setting.
type file struct {
	name    string
	values  *viper.Viper // texts
	entries map[string]entry
}

// entry is a key of the file: its line, and why its value cannot be one.
type entry struct {
	line int
	err  error
}

// at is where a key is set: aggregator.yaml:12.
func (f file) at(line int) string { return fmt.Sprintf("%s:%d", f.name, line) }

// readFile reads the settings file. A file that was named, by --config or AGGREGATOR_CONFIG,
// must exist. Errors are those of the file as a whole, or of keys that are no settings.
func readFile(flags *pflag.FlagSet) (file, []error) {
	name, namedBy := os.Getenv(fileVariable), fileVariable
	if flags != nil && flags.Changed("config") {
		name, namedBy = flags.Lookup("config").Value.String(), "--config"
	}
	if name != "" || namedBy == "--config" {
		return readYAML(name, namedBy+" = ")
	}
	for _, name := range usualFiles {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return readYAML(name, "")
		}
	}
	return file{}, nil
}

func readYAML(name, namedBy string) (file, []error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return file{}, []error{invalidf("%s%q: %w", namedBy, name, errors.Unwrap(err))}
	}
	d := &decoder{file: file{name: name, entries: map[string]entry{}}}
	d.values = viper.NewWithOptions(viper.WithDecoderRegistry(d))
	d.values.SetConfigType("yaml")
	if err := d.values.ReadConfig(bytes.NewReader(text)); err != nil {
		return file{}, []error{invalidf("%s%q: %s", namedBy, name, yamlReason(err))}
	}
	return d.file, d.unknown
}

// decoder is what viper reads the file with. Its own would make numbers and dates of texts: 0123
// would be 83.
type decoder struct {
	file
	unknown []error // keys that are no settings
}

// Decoder is the decoder itself, whatever the format.
func (d *decoder) Decoder(string) (viper.Decoder, error) { return d, nil }

// Decode reads a document of sections into settings, each a text as it is written.
func (d *decoder) Decode(text []byte, settings map[string]any) error {
	// Decoded, for a key that is there twice, or an alias within itself; and as nodes, for
	// values as they are written.
	var sections map[string]any
	var document yaml.Node
	if err := yaml.Unmarshal(text, &sections); err != nil {
		return err
	}
	if err := yaml.Unmarshal(text, &document); err != nil || len(document.Content) == 0 {
		return err
	}
	d.unknown = d.add(settings, "", document.Content[0])
	return nil
}

// add notes what a mapping sets, and returns the errors of keys that are no settings. A
// setting without a value is not set, nor is an empty section: all in it may be commented out.
func (f file) add(settings map[string]any, prefix string, mapping *yaml.Node) (all []error) {
	var merged []*yaml.Node
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], resolved(mapping.Content[i+1])
		name := prefix + strings.ToLower(key.Value)
		switch empty := value.ShortTag() == "!!null"; {
		case key.ShortTag() == "!!merge":
			merged = append(merged, value)
		case isSetting(name):
			if _, found := f.entries[name]; !found && !empty {
				text, err := textOf(name, value)
				f.entries[name] = entry{key.Line, err}
				settings[name] = text
			}
		case value.Kind == yaml.MappingNode:
			all = append(all, f.add(settings, name+".", value)...)
		case isSection(name) && empty:
		case isSection(name):
			all = append(all, invalidf("%s (%s): want a section with settings, not a value", name, f.at(key.Line)))
		default:
			all = append(all, invalidf("%s (%s): no such setting%s", name, f.at(key.Line), suggest(name, settingKeys())))
		}
	}
	for _, other := range merged { // after the rest, which wins over it
		mappings := []*yaml.Node{other}
		if other.Kind == yaml.SequenceNode {
			mappings = other.Content
		}
		for _, m := range mappings {
			all = append(all, f.add(settings, prefix, resolved(m))...)
		}
	}
	return all
}

// resolved is the node that an alias stands for.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
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

// textOf is a value of the file, as written, in the form that variables and flags have. Only
// events.weights may be a mapping.
func textOf(key string, value *yaml.Node) (string, error) {
	switch {
	case value.Kind == yaml.ScalarNode:
		return value.Value, nil
	case value.Kind != yaml.MappingNode || key != "events.weights":
		return "", errors.New("want a single value")
	}
	var list []string
	for i := 0; i+1 < len(value.Content); i += 2 {
		// Of a weight that is not a single value there is nothing here, which is no number.
		list = append(list, strings.ToUpper(value.Content[i].Value)+"="+resolved(value.Content[i+1]).Value)
	}
	return strings.Join(list, ","), nil
}

func isSetting(key string) bool {
	return slices.ContainsFunc(settings, func(s setting) bool { return s.Key == key })
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
