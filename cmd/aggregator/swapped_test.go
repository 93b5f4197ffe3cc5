package main

import (
	"fmt"
	"strings"
	"testing"

	"aggregator/internal/testenv"
)

// Where the URLs are swapped, each command ends as with any other wrong setting.
func TestSwappedURLs(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	swapped := []string{
		"AGGREGATOR_POSTGRES_URL=postgres://u:hunter2@" + s.redis.Options().Addr + "/app?connect_timeout=1",
		fmt.Sprintf("AGGREGATOR_REDIS_URL=redis://u:hunter2@%s:%d", s.db.Config().Host, s.db.Config().Port),
	}
	for _, command := range []string{"run --http-addr=", "drain", "status", "verify", "migrate up", "runs"} {
		program(t, swapped, strings.Fields(command)...).requireFailure(
			t, exitConfig, "answers, but does not speak PostgreSQL: it is a Redis")
	}
	program(t, []string{s.env[0], swapped[1]}, "drain").requireFailure(
		t, exitConfig, "answers, but does not speak Redis: it is a PostgreSQL")
}
