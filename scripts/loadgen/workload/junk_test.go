package workload

import (
	"math/big"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// judge says what an entry is by the words of the contract, to check the reasons that
// are written beside each kind of junk.
func judge(fields []string) string {
	var parts []string
	switch {
	case len(fields) == 2 && fields[0] == "event":
		if !utf8.ValidString(fields[1]) {
			return InvalidUTF8
		}
		parts = strings.Split(fields[1], ":")
	case len(fields) == 6 && fields[0] == "child_profile_id" && fields[2] == "book_id" && fields[4] == "action":
		parts = []string{fields[1], fields[3], fields[5]}
		if !utf8.ValidString(strings.Join(parts, "")) {
			return InvalidUTF8
		}
	default:
		return MissingField
	}
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return Malformed
	}
	for _, id := range parts[:2] {
		if !regexp.MustCompile(`^-?[0-9]+$`).MatchString(id) {
			return Malformed
		}
		if n, _ := new(big.Int).SetString(id, 10); strings.HasPrefix(id, "-") || !n.IsInt64() {
			return OutOfRange
		}
	}
	if parts[2] != "LIKE" && parts[2] != "DISLIKE" {
		return UnknownAction
	}
	return ""
}

func TestJunkIsJunkForTheReasonGiven(t *testing.T) {
	for _, kind := range junkTexts {
		t.Run("text "+kind.name, func(t *testing.T) {
			text := strings.NewReplacer("P", "12", "B", "34").Replace(kind.text)
			require.Equal(t, kind.reason, judge([]string{"event", text}), "%q", text)
		})
	}
	for _, kind := range junkEntries {
		t.Run("entry "+kind.name, func(t *testing.T) {
			fields := append([]string(nil), kind.fields...)
			for i := 1; i < len(fields); i += 2 {
				fields[i] = strings.NewReplacer("P", "12", "B", "34").Replace(fields[i])
			}
			require.Equal(t, kind.reason, judge(fields), "%q", fields)
		})
	}
}

func TestEveryKindOfJunkOccurs(t *testing.T) {
	cases := map[string]struct {
		kind    string
		wire    string
		reasons []string
		kinds   int
	}{
		"stream": {
			Stream, WireEvent,
			[]string{Malformed, UnknownAction, OutOfRange, MissingField, InvalidUTF8},
			len(junkTexts) + len(junkEntries) + 2,
		},
		"fields": {
			Stream, WireFields,
			[]string{Malformed, UnknownAction, OutOfRange, MissingField, InvalidUTF8},
			len(junkTexts) + len(junkEntries) + 2,
		},
		"list": {List, WireEvent, []string{Malformed, UnknownAction, OutOfRange, InvalidUTF8}, len(junkTexts) + 2},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := Defaults()
			// One profile and one book, so that a kind always looks the same.
			s.Kind, s.Wire, s.Count, s.Malformed, s.JunkSize, s.Profiles, s.Books = c.kind, c.wire, 5_000, 1, 1000, 1, 1
			source := open(t, s)
			kinds, reasons := map[string]bool{}, map[string]bool{}
			for i := range s.Count {
				e := source.At(i)
				require.Equal(t, e.Junk, judge(e.Fields()), "%.100q", e.Fields())
				look := strings.Join(e.Fields(), "\x01")
				if len(look) > 900 {
					look = e.Junk + " of the size asked for"
					require.Len(t, e.Text(), 1000)
				}
				kinds[look], reasons[e.Junk] = true, true
				if c.kind == List {
					form, _ := e.Payload()
					require.Equal(t, FormEvent, form)
				}
			}
			require.Len(t, kinds, c.kinds)
			require.Len(t, reasons, len(c.reasons))
			for _, reason := range c.reasons {
				require.True(t, reasons[reason], reason)
			}
		})
	}
}

func TestGoodEventsAreNoJunk(t *testing.T) {
	for _, wire := range []string{WireEvent, WireFields} {
		s := lively()
		s.Malformed, s.Wire = 0, wire
		source := open(t, s)
		for i := range s.Count {
			require.Empty(t, judge(source.At(i).Fields()))
		}
	}
}
