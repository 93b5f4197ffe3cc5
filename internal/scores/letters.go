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
