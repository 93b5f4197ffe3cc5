package events

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// What people really push is recognized: the detail of its dead letter says what to push instead.
func TestHint(t *testing.T) {
	const (
		usual = "push <childProfileId>:<bookId>:<ACTION> as plain text"
		json  = "; it looks like JSON: "
	)
	for text, want := range map[string]string{
		`{"childProfileId":12,"bookId":7,"action":"LIKE"}`:                      json + "push 12:7:LIKE",
		`{"action":"like","book_id":"7","child_profile_id":"12","x":1}`:         json + "push 12:7:LIKE",
		`{"@class":"com.example.Like","childProfileId":12}`:                     json + usual,
		`{"child":9007199254740993,"book":7,"action":"LIKE"}`:                   json + "push 9007199254740993:7:LIKE",
		`{"bookAuthor":"a","bookId":7,"childProfileId":12,"likeAction":"LIKE"}`: json + "push 12:7:LIKE",
		`[12, 7, "LIKE"]`:       json + "push 12:7:LIKE",
		`"12:7:LIKE"`:           "; it looks like a JSON string: push 12:7:LIKE",
		`"nothing"`:             "; it looks like a JSON string: " + usual,
		`'12:7:LIKE'`:           "; it looks like text in quotes: push 12:7:LIKE",
		`b'12:7:LIKE'`:          "; it looks like text in quotes: push 12:7:LIKE",
		" 12:7:LIKE":            "; it looks like an event with white space around it: push 12:7:LIKE",
		"12,7,LIKE":             "; it looks like an event with other separators: push 12:7:LIKE",
		"12|7|like":             "; it looks like an event with other separators: push 12:7:LIKE",
		"12 : 7 : LIKE":         "; it looks like an event with other separators: push 12:7:LIKE",
		"\x1f\x8b\x08\x00":      "; it looks like gzip: push plain text",
		"\x80\x04\x95\x0e\x00":  "; it looks like a pickled Python object: push plain text",
		"\xef\xbb\xbf12:7:LIKE": "; it looks like text with a byte order mark: push plain text",
		"\xac\xed\x00\x05t\x00\x09": "; it looks like a serialized Java object (give RedisTemplate a " +
			"StringRedisSerializer): push plain text",
		"":          "",
		"{":         "",
		`{"a":1} b`: "",
		"null":      "",
		"12:7":      "",
		"LIKE":      "",
		"\xff":      "",
	} {
		t.Run(text, func(t *testing.T) {
			_, reason, detail := decoder.Parse([]byte(text))
			assert.Contains(t, []Reason{Malformed, InvalidUTF8}, reason)
			if want == "" {
				assert.NotContains(t, detail, ";")
			} else {
				assert.Contains(t, detail, want)
			}
		})
	}
	for text, want := range map[string]string{
		"1:2:like":   `action is "like"; actions are as in events.weights, to the letter: is "LIKE" meant?`,
		"1:2:LIKE\n": `action is "LIKE\n"; actions are as in events.weights, to the letter: is "LIKE" meant?`,
		"1:2:LOVE":   `action is "LOVE"`,
		`x:2:LIKE`:   `child_profile_id is "x"`,
	} {
		t.Run(text, func(t *testing.T) {
			_, _, detail := decoder.Parse([]byte(text))
			assert.Equal(t, want, detail)
		})
	}
	for id, want := range map[string]string{
		`"1"`: `child_profile_id is "\"1\""; push digits alone, without quotes and white space`,
		" 1":  `child_profile_id is " 1"; push digits alone, without quotes and white space`,
		"one": `child_profile_id is "one"`,
	} {
		_, reason, detail := decoder.fields([]byte(id), []byte("2"), []byte("LIKE"))
		assert.Equal(t, Malformed, reason)
		assert.Equal(t, want, detail)
	}
}
