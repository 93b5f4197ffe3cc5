package deadletter

import (
	"fmt"
	"regexp"
)

// Aside is the source under which the dead letters of all epochs before this one are archived. No stream of
// ours has such a name: see config.
func Aside(source string, epoch int64) string { return fmt.Sprintf("%s@%d", source, epoch) }

var anAside = regexp.MustCompile(`@[0-9]+$`)

// origin is the source that dead letters come from which may be archived.
func origin(source string) string { return anAside.ReplaceAllString(source, "") }
