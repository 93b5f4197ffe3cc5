package workload

import (
	"strconv"
	"strings"
)

// junkText is one kind of junk in a single piece. In the text, P and B stand for the ids
// of a profile and of a book that may well exist.
type junkText struct{ name, text, reason string }

// junkTexts go into lists and into the field "event". The order is part of what a seed
// means: add at the end.
var junkTexts = []junkText{
	{"empty", "", Malformed},
	{"space", " ", Malformed},
	{"spaces", " \t  ", Malformed},
	{"one part", "P", Malformed},
	{"two parts", "P:B", Malformed},
	{"four parts", "P:B:LIKE:B", Malformed},
	{"trailing colon", "P:B:LIKE:", Malformed},
	{"only colons", "::", Malformed},
	{"no profile", ":B:LIKE", Malformed},
	{"no book", "P::LIKE", Malformed},
	{"no action", "P:B:", Malformed},
	{"profile of letters", "abc:B:LIKE", Malformed},
	{"book of letters", "P:Bx:LIKE", Malformed},
	{"profile with space", " P:B:LIKE", Malformed},
	{"book with space", "P:B :LIKE", Malformed},
	{"plus", "+P:B:LIKE", Malformed},
	{"lone minus", "-:B:LIKE", Malformed},
	{"two minuses", "P:--B:LIKE", Malformed},
	{"fraction", "P.5:B:LIKE", Malformed},
	{"underscore", "1_000:B:LIKE", Malformed},
	{"hexadecimal", "0x1F:B:LIKE", Malformed},
	{"foreign digits", "٣:B:LIKE", Malformed},
	{"byte order mark", "\ufeffP:B:LIKE", Malformed},
	{"json", `{"child":P,"book":B}`, Malformed},
	{"nul", "P\x00:B:LIKE", Malformed},
	{"negative profile", "-P:B:LIKE", OutOfRange},
	{"negative book", "P:-B:LIKE", OutOfRange},
	{"minus zero", "-0:B:LIKE", OutOfRange},
	{"profile too big by one", "9223372036854775808:B:LIKE", OutOfRange},
	{"profile of 2^64+1", "18446744073709551617:B:LIKE", OutOfRange},
	{"book much too big", "P:99999999999999999999999999999999:LIKE", OutOfRange},
	{"negative too big", "P:-99999999999999999999999:LIKE", OutOfRange},
	{"other action", "P:B:LOVE", UnknownAction},
	{"lower case", "P:B:like", UnknownAction},
	{"space before action", "P:B: LIKE", UnknownAction},
	{"space after action", "P:B:LIKE ", UnknownAction},
	{"line end", "P:B:DISLIKE\n", UnknownAction},
	{"nul in action", "P:B:LI\x00KE", UnknownAction},
	{"action in other script", "P:B:좋아요", UnknownAction},
	{"stray byte", "P:B:LIKE\xff", InvalidUTF8},
	{"bad sequence", "P\xc3\x28:B:LIKE", InvalidUTF8},
	{"surrogate", "P:B:\xed\xa0\x80", InvalidUTF8},
	{"not text at all", "\x80\x81\xfe", InvalidUTF8},
	// Two faults at once: the first of the order given in the contract counts.
	{"bad profile before big book", "x:9223372036854775808:LOVE", Malformed},
	{"big profile before bad book", "9223372036854775808:x:LIKE", OutOfRange},
	{"bad book before action", "P:x:LOVE", Malformed},
	{"negative book before action", "P:-B:LOVE", OutOfRange},
}

// junkEntry is one kind of junk in a stream entry of other fields than "event" alone.
type junkEntry struct {
	name   string
	fields []string
	reason string
}

var junkEntries = []junkEntry{
	{"other name", []string{"evnt", "P:B:LIKE"}, MissingField},
	{"name in capitals", []string{"Event", "P:B:LIKE"}, MissingField},
	{"empty name", []string{"", "P:B:LIKE"}, MissingField},
	{"event and more", []string{"event", "P:B:LIKE", "trace", "7"}, MissingField},
	{"event twice", []string{"event", "P:B:LIKE", "event", "P:B:LIKE"}, MissingField},
	{"no profile", []string{"book_id", "B", "action", "LIKE"}, MissingField},
	{"no book", []string{"child_profile_id", "P", "action", "LIKE"}, MissingField},
	{"no action", []string{"child_profile_id", "P", "book_id", "B"}, MissingField},
	{"only a profile", []string{"child_profile_id", "P"}, MissingField},
	{"other name of three", []string{"child_profile_id", "P", "book", "B", "action", "LIKE"}, MissingField},
	{"profile twice, no book", []string{"child_profile_id", "P", "child_profile_id", "P", "action", "LIKE"}, MissingField},
	{"fourth field", []string{"child_profile_id", "P", "book_id", "B", "action", "LIKE", "at", "now"}, MissingField},
	{"empty profile", []string{"child_profile_id", "", "book_id", "B", "action", "LIKE"}, Malformed},
	{"empty book", []string{"child_profile_id", "P", "book_id", "", "action", "LIKE"}, Malformed},
	{"empty action", []string{"child_profile_id", "P", "book_id", "B", "action", ""}, Malformed},
	{"letters", []string{"child_profile_id", "x", "book_id", "B", "action", "LIKE"}, Malformed},
	{"space", []string{"child_profile_id", "P", "book_id", " B", "action", "LIKE"}, Malformed},
	{"negative", []string{"child_profile_id", "-P", "book_id", "B", "action", "LIKE"}, OutOfRange},
	{"too big", []string{"child_profile_id", "P", "book_id", "9223372036854775808", "action", "LIKE"}, OutOfRange},
	{"other action", []string{"child_profile_id", "P", "book_id", "B", "action", "LOVE"}, UnknownAction},
	{"stray byte", []string{"child_profile_id", "P", "book_id", "B", "action", "LI\xffKE"}, InvalidUTF8},
}

// makeJunk makes a piece of junk of any kind that the source can hold, for any partition.
func (m *madeUp) makeJunk(d *draw) Event {
	ids := strings.NewReplacer("P", decimal(m.profiles.draw(d)), "B", decimal(m.books.draw(d)))
	partition := int(d.below(int64(m.Partitions)))
	kinds := int64(len(junkTexts))
	if m.Kind == Stream {
		kinds += int64(len(junkEntries))
	}
	if m.JunkSize > 0 {
		kinds += 2
	}
	n := d.below(kinds)
	if m.JunkSize > 0 {
		if n < 2 {
			return m.makeBigJunk(n == 0, d, partition)
		}
		n -= 2
	}
	if n < int64(len(junkTexts)) {
		kind := junkTexts[n]
		return Event{Junk: kind.reason, Partition: partition, junk: []string{"event", ids.Replace(kind.text)}}
	}
	kind := junkEntries[n-int64(len(junkTexts))]
	fields := make([]string, len(kind.fields))
	for i, f := range kind.fields {
		fields[i] = f
		if i%2 == 1 {
			fields[i] = ids.Replace(f)
		}
	}
	return Event{Junk: kind.reason, Partition: partition, junk: fields}
}

// makeBigJunk makes JunkSize bytes, either of no shape or as the action of an event that
// is else in order.
func (m *madeUp) makeBigJunk(shapeless bool, d *draw, partition int) Event {
	letter := string(rune('a' + d.below(26)))
	text, reason := "", Malformed
	if !shapeless {
		text, reason = decimal(m.profiles.draw(d))+":"+decimal(m.books.draw(d))+":", UnknownAction
	}
	// At least one letter, lest a small size leave no action at all.
	text += strings.Repeat(letter, max(m.JunkSize-len(text), 1))
	return Event{Junk: reason, Partition: partition, junk: []string{"event", text}}
}

func decimal(id int64) string { return strconv.FormatInt(id, 10) }
