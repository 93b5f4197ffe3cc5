package searchtext_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"aggregator/internal/searchtext"
)

func TestText(t *testing.T) {
	type book struct {
		title, author, publisher string
		topics                   []string
	}
	for _, c := range []struct {
		name string
		book book
		want string
	}{
		{"nothing", book{}, ""},
		{
			"all",
			book{"The Moon", "Ann Lee", "Tall Trees", []string{"Stars", "Night"}},
			"the moon ann lee tall trees night stars",
		},
		{"blanks alone", book{title: " \t\u00a0", author: "\u3000", topics: []string{" "}}, ""},
		{"white space", book{title: "  The\t\n Moon\u3000and \u00a0 I ", publisher: " P "}, "the moon and i p"},
		{"topics in any order, each once", book{topics: []string{"b", "A", "a ", "B", "ab"}}, "a ab b"},
		{"Hangul in letters", book{title: "\u1103\u1161\u11af \u1110\u1169\u1101\u1175"}, "달 토끼"},
		{"Hangul of half width", book{title: "ﾡￂ"}, "가"},
		{"wide letters and a ligature", book{title: "ＡＢＣ　１２３ ﬁn"}, "abc 123 fin"},
		{"an accent apart", book{title: "E\u0301cole"}, "école"},
		{"one character only when small", book{title: "H\u0331"}, "\u1e96"},
		{"small only when normalised", book{title: "℡ ㎒ ℌ"}, "tel mhz h"},
		{"signs stay", book{title: "100% a_b c\\d 'e'"}, `100% a_b c\d 'e'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, searchtext.Text(c.book.title, c.book.author, c.book.publisher, c.book.topics))
		})
	}
}

// What is normal stays as it is, and no white space is left but single spaces.
func FuzzText(f *testing.F) {
	for _, seed := range []string{
		"The Moon", "\u1103\u1161\u11af", "E\u0301 H\u0331", "ＡＢＣ　ﬁ ㎒", "İ ẞ ΟΔΟΣ", "\u00b4 \u2003x", "\xff\xfe", "ㄱㅏ",
	} {
		f.Add(seed, "x "+seed)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		text := searchtext.Text(a, b, "", []string{b, a})
		assert.Equal(t, text, searchtext.Text(text, "", "", nil))
		assert.Equal(t, text, searchtext.Text(a, b, "", []string{a, b}))
	})
}
