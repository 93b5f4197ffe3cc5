package scores

import (
	"fmt"
	"strings"
)

// NumLetters is how many letters MBTI types are made of.
const NumLetters = 8

// letterOrder is the order of the letters in Letters, in Delta.MBTI and in the columns
// of the tables.
const letterOrder = "IESNTFJP"

// Letters is a set of MBTI letters, a bit for each in the order I E S N T F J P.
type Letters uint8

// ParseType returns the letters of an MBTI type, such as INTJ; lower case and spaces around it do not matter.
func ParseType(mbti string) (Letters, error) {
	var letters Letters
	if name := strings.ToUpper(strings.Trim(mbti, " ")); len(name) == 4 {
		for i, pair := range []string{"IE", "SN", "TF", "JP"} {
			if strings.IndexByte(pair, name[i]) < 0 {
				break
			}
			letters |= 1 << strings.IndexByte(letterOrder, name[i])
			if i == 3 {
				return letters, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is not an MBTI type", mbti)
}

// LetterName is the name of the i-th letter.
func LetterName(i int) string { return letterOrder[i : i+1] }

// Has says whether the i-th letter is in the set.
func (l Letters) Has(i int) bool { return l&(1<<i) != 0 }

// Dimensions are the pairs of letters, by their places; the first one wins a tie.
var Dimensions = [4][2]int{{0, 1}, {3, 2}, {4, 5}, {6, 7}}

// TypeOf is the type that cumulative scores make, such as INTJ.
func TypeOf(sums [NumLetters]float64) string {
	var name strings.Builder
	for _, pair := range Dimensions {
		letter := pair[0]
		if sums[pair[0]] < sums[pair[1]] {
			letter = pair[1]
		}
		name.WriteString(LetterName(letter))
	}
	return name.String()
}

// String is the name of a type, such as INTJ; empty for no letters.
func (l Letters) String() string {
	if l == 0 {
		return ""
	}
	var name strings.Builder
	for _, pair := range Dimensions {
		for _, letter := range pair {
			if l.Has(letter) {
				name.WriteString(LetterName(letter))
			}
		}
	}
	return name.String()
}
