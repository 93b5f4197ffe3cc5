package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// hint says what a text looks like that is no event, with a semicolon before it, and what to push instead. It is empty
// if nothing is recognized. It only helps a person: what is rejected, and for what reason, does not depend on it.
func hint(text []byte) string {
	for _, form := range serialized {
		if bytes.HasPrefix(text, []byte(form.magic)) {
			return "; it looks like " + form.name + ": push plain text"
		}
	}
	what, meant := recognize(text)
	switch {
	case what == "":
		return ""
	case meant == "":
		return "; it looks like " + what + ": push <childProfileId>:<bookId>:<ACTION> as plain text"
	}
	return "; it looks like " + what + ": push " + meant
}

// serialized are the first bytes of what clients make of a value by default, or are often told to.
var serialized = []struct{ magic, name string }{
	{"\xac\xed\x00\x05", "a serialized Java object (give RedisTemplate a StringRedisSerializer)"},
	{"\x80\x04\x95", "a pickled Python object"},
	{"\x80\x05\x95", "a pickled Python object"},
	{"\x1f\x8b", "gzip"},
	{"\xef\xbb\xbf", "text with a byte order mark"},
	{"\xff\xfe", "UTF-16"},
	{"\xfe\xff", "UTF-16"},
}

// recognize says what a text looks like, and which event may have been meant; both may be empty.
func recognize(text []byte) (what, meant string) {
	bare := bytes.TrimSpace(text)
	if len(bare) == 0 {
		return "", ""
	}
	if bare[0] == '"' || bare[0] == '{' || bare[0] == '[' {
		if what, meant = recognizeJSON(bare); what != "" {
			return what, meant
		}
	}
	if inner := quoted.FindSubmatch(bare); inner != nil {
		if meant = plain(string(bytes.Join(inner[1:], nil))); meant != "" {
			return "text in quotes", meant
		}
	}
	switch meant = plain(string(bare)); {
	case meant == "":
		return "", ""
	case len(bare) < len(text):
		return "an event with white space around it", meant
	case meant == strings.ToUpper(string(bare)):
		return "", "" // its action is what is wrong
	}
	return "an event with other separators", meant
}

// quoted is what languages print for a text, or for bytes.
var quoted = regexp.MustCompile("^[bu]?(?:'(.*)'|\"(.*)\"|`(.*)`)$")

// recognizeJSON is recognize for JSON: a text, an array of three, or an object whose members have usual names.
func recognizeJSON(text []byte) (what, meant string) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil || decoder.More() {
		return "", ""
	}
	switch value := value.(type) {
	case string:
		return "a JSON string", plain(value)
	case []any:
		return "JSON", plain(join(value))
	case map[string]any:
		return "JSON", plain(join([]any{
			member(value, number, "profile", "child"), member(value, number, "book"), member(value, word, "action"),
		}))
	}
	return "", ""
}

var (
	number = regexp.MustCompile(`^\d+$`)
	word   = regexp.MustCompile(`^[A-Za-z_]+$`)
)

// member is the first member of an object, by name, whose name has one of the words and whose value has the form.
func member(object map[string]any, form *regexp.Regexp, words ...string) any {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		named := slices.ContainsFunc(words, func(word string) bool { return strings.Contains(strings.ToLower(name), word) })
		if named && form.MatchString(fmt.Sprint(object[name])) {
			return object[name]
		}
	}
	return nil
}

func join(parts []any) string {
	if len(parts) != 3 {
		return ""
	}
	return fmt.Sprintf("%v:%v:%v", parts...)
}

var loose = regexp.MustCompile(`^\s*(\d{1,19})\s*[:;,|/\t _-]\s*(\d{1,19})\s*[:;,|/\t _-]\s*([A-Za-z_]{1,64})\s*$`)

// plain is the event that a text stands for, if it only takes other separators and capitals.
func plain(text string) string {
	parts := loose.FindStringSubmatch(text)
	if parts == nil {
		return ""
	}
	for _, id := range parts[1:3] {
		if _, reason := parseID([]byte(id)); reason != "" {
			return ""
		}
	}
	return strings.ToUpper(strings.Join(parts[1:], ":"))
}

// hintIDs is hint for ids of which one is none.
func hintIDs(ids ...[]byte) string {
	for _, id := range ids {
		if _, reason := parseID(bytes.Trim(id, " \t\r\n\"'")); reason != "" {
			return ""
		}
	}
	return "; push digits alone, without quotes and white space"
}

// hintAction is hint for an action that is not known.
func hintAction(action []byte) string {
	usual := bytes.ToUpper(bytes.TrimSpace(action))
	if len(usual) == 0 || bytes.Equal(usual, action) {
		return ""
	}
	return fmt.Sprintf("; actions are as in events.weights, to the letter: is %s meant?", quote(usual))
}
