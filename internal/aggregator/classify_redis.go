package aggregator

import "strings"

// haltsRedis says whether an error that Redis answers does not pass by itself, and what to do then.
func haltsRedis(message string) (halts bool, advice string) {
	word, _, _ := strings.Cut(message, " ")
	switch word {
	case "WRONGTYPE", "NOPERM", "NOAUTH", "WRONGPASS":
		return true, ""
	}
	return false, ""
}
