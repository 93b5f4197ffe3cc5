package main

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"aggregator/internal/cluster"
	"aggregator/internal/testenv"

	"github.com/stretchr/testify/require"
)

func (s *pair) members() (lines []cluster.Instance) {
	s.t.Helper()
	r := s.program("members", "-o", "json")
	r.requireDone(s.t)
	var answer struct{ Members []cluster.Instance }
	require.NoError(s.t, json.Unmarshal([]byte(r.stdout), &answer))
	return answer.Members
}

// Instances that share the sources, one that is gone, an older program, and one with another source.
func TestMembers(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	require.Equal(t, "no instance shares the sources\n", s.program("members").stdout)
	s.env = append(s.env, "AGGREGATOR_SOURCE_PARTITIONS=4", "AGGREGATOR_LEASE_TTL=1m")
	s.exec(
		`INSERT INTO aggregator.member (instance, token, started_at, seen_at, expires_at, draining, version, source_kind,
			source_key, partitions) VALUES
		('gone', '', now(), now(), now() - interval '1 minute', false, 'v1', 'stream', 'book-like-events', 4),
		('leaves', '', now(), now(), now() + interval '1 minute', true, 'v1', 'stream', 'book-like-events', 4),
		('other', '', now(), now(), now() + interval '1 minute', false, 'v1', 'stream', 'others', 1)`)
	s.exec(`INSERT INTO aggregator.lease VALUES ('book-like-events:{0}', 'old', now(), now() + interval '1 minute'),
		('job:purge', 'job', now(), now() + interval '1 minute')`)
	p := s.start("--lease-name", "me")
	p.eventually("/metrics", "aggregator_held_sources 2\n") // and two for the older program
	lines := s.members()
	var names []string
	for _, l := range lines {
		names = append(names, l.Instance+" "+l.State)
	}
	require.Equal(t, []string{"gone gone", "leaves draining", "me living", "old unknown", "other living"}, names)
	me := lines[2]
	require.Len(t, me.Sources, 2)
	require.Equal(t, 2, *me.Target)
	require.Equal(t, programVersion(), me.Version)
	require.Equal(t, []string{"book-like-events:{0}"}, lines[3].Sources)
	require.Equal(t, 2, *lines[3].Target)
	require.Nil(t, lines[4].Target)
	require.Nil(t, lines[0].Target)

	text := s.program("members")
	text.requireDone(t)
	require.Regexp(t, `(?m)^INSTANCE +STATE +VERSION +STARTED +SEEN +HAS +TARGET +SOURCES$`, text.stdout)
	require.Regexp(t, `(?m)^me +living +\S+ +\S+Z +\S+ ago +2 +2 +book-like-events:\{\d\}, book-like-events:\{\d\}$`,
		text.stdout)
	status := s.program("status")
	status.requireDone(t)
	require.Regexp(t, `(?m)^me +living .* 2 +2 +book-like-events:`, status.stdout)
	require.NotContains(t, status.stdout, "gone", "of those that live")

	second := s.program("run", "--lease-name", "me", "--lease-ttl", "3s", "--http-addr=")
	require.Equal(t, exitConfig, second.code)
	last := strings.Split(strings.TrimSpace(second.stderr), "\n")
	require.Contains(t, last[len(last)-1], "another instance has this name: me, seen at 20")

	doctor := s.program("doctor", "--lease-ttl", "0s")
	require.Contains(t, doctor.stdout,
		"lease.ttl is 0s here, and 2 with leases share these sources: one without drains all of them as well")
	doctor = s.program("doctor", "--source-partitions", "8")
	require.Contains(t, doctor.stdout,
		"these drain the same key in another way than the stream book-like-events in 8 partitions: ")

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
	require.NotContains(t, s.program("members").stdout, "\nme ")
}
