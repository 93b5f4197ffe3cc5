package postgres

import "strings"

// ApplyOnCitus is for tests.
var ApplyOnCitus = applyOnCitus

// Ours is for tests.
var Ours = ours

// ListOfOurs is what Ours is to find.
func ListOfOurs() (all []string) {
	for _, table := range listed(tablesOfOurs) {
		all = append(all, "table aggregator."+table[0])
		for column := range strings.SplitSeq(table[1], ", ") {
			all = append(all, "column aggregator."+table[0]+"."+column)
		}
	}
	for _, routine := range listed(routinesOfOurs) {
		all = append(all, "routine aggregator."+routine[0]+"("+routine[1]+")")
	}
	return all
}
