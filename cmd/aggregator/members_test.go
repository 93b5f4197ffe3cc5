package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"aggregator/internal/cluster"
	"aggregator/internal/terminal"
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
	require.Regexp(t, `(?m)^me +living +\S+ +\S+Z +\S+ ago +2 +2 +\{\d\} \{\d\}$`, text.stdout)
	require.Contains(t, text.stdout, "no target for other: the source there is the stream others, "+
		"here it is the stream book-like-events in 4 partitions\n")
	status := s.program("status")
	status.requireDone(t)
	require.Regexp(t, `(?m)^me +living .* 2 +2 +\{\d\} \{\d\}$`, status.stdout)
	require.Contains(t, status.stdout, "no target for other: ")
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

// Who has what can be read on a terminal of 80 columns.
func TestWhoHasWhatAt80Columns(t *testing.T) {
	s := newPair(t)
	s.env = append(s.env, "AGGREGATOR_SOURCE_PARTITIONS=12")
	s.exec(`INSERT INTO aggregator.member (instance, token, started_at, seen_at, expires_at, draining, version,
			source_kind, source_key, partitions) VALUES
		('aggregator-5d8f-x2x7q', '', now(), now(), now() + interval '1 hour', false, 'v1.2.3-45-gabcdef0', 'stream',
			'book-like-events', 12),
		('aggregator-5d8f-k9m4z', '', now(), now(), now() + interval '1 hour', false, 'v1.2.3-45-gabcdef0', 'stream',
			'book-like-events', 12),
		('old', '', now(), now(), now() + interval '1 hour', false, 'v1', 'stream', 'book-like-events', 4)`)
	for n := range 12 {
		s.exec(fmt.Sprintf(`INSERT INTO aggregator.lease VALUES ('book-like-events:{%d}', '%s', now(), now() + interval `+
			`'1 hour')`, n, []string{"aggregator-5d8f-x2x7q", "aggregator-5d8f-k9m4z"}[n%2]))
	}
	require.Equal(t, "book-like-events:{10}", s.members()[1].Sources[5], "after {8}")
	text := plain(s.onTerminal(80, nil, "members"))
	requireFits(t, 80, text)
	require.Regexp(t, `(?m)^INSTANCE +STATE +SEEN +HAS +TARGET +SOURCES$`, text)
	require.Regexp(t, `(?m)^aggregator-5d8f-x2x7q +living .* 6 +6 +\{0\} \{2\} \{4\} \{6\} \{8\}( |\s+)\{10\}$`, text)
	require.Contains(t, strings.Join(strings.Fields(text), " "), "no target for old: the source there is the stream "+
		"book-like-events in 4 partitions, here it is the stream book-like-events in 12 partitions")

	status := plain(s.onTerminal(80, nil, "status"))
	requireFits(t, 80, status)
	require.Regexp(t, `(?m)^\S+:\{11\} .* lease held by aggregator-5d8f-k9m4z$`, status)
	require.Regexp(t, `(?m)^aggregator-5d8f-k9m4z +living .* 6 +6 +\{1\} \{3\} \{5\} \{7\} \{9\}( |\s+)\{11\}$`, status)

	p := s.startOn(80, 50, nil, "status", "--watch=1h")
	require.Eventually(t, func() bool { return strings.HasSuffix(p.written(), "\x1b[J") }, patience, time.Millisecond)
	_, err := p.keys.WriteString("q")
	require.NoError(t, err)
	watched, _ := p.wait()
	require.Regexp(t, `(?m)^\S+:\{11\} .* lease held by aggregator-5d8f-k9m4z$`, plain(watched))
}

// Sources of several keys have their names, and many are cut unless all are wanted.
func TestTextOfSources(t *testing.T) {
	lines := []cluster.Instance{
		{Instance: "a", Sources: []string{"k:{2}", "k:{10}"}}, {Instance: "b", Sources: []string{"k"}},
	}
	write := func(wide bool) string {
		var text strings.Builder
		require.NoError(t, memberTable(lines, wide).Write(&text, terminal.Terminal{}))
		return text.String()
	}
	require.Contains(t, write(false), "k:{2}, k:{10}\n")
	lines = lines[:1]
	require.Contains(t, write(false), " {2} {10}\n")
	require.Contains(t, write(true), "k:{2}, k:{10}\n")
	list := []cluster.Instance{{Sources: []string{"{k}:{10}:stream", "{k}:{2}:stream"}}}
	require.Equal(t, []string{"{k}:{2}:stream", "{k}:{10}:stream"}, inOrder(list)[0].Sources)
	require.True(t, oneKey(list))
	require.Equal(t, "{2} {10}", sourcesText(list[0].Sources, true, false))
	for n := range 60 {
		lines[0].Sources = append(lines[0].Sources, fmt.Sprintf("k:{%d}", n+11))
	}
	require.Contains(t, write(false), " {39} and 31 more\n")
	require.NotContains(t, write(true), "more")
}
