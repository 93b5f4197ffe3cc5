package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"aggregator/internal/terminal"
	"aggregator/internal/testenv"
)

// onTerminal is the program on a terminal of its own: what it has written, and a keyboard.
type onTerminal struct {
	t    *testing.T
	cmd  *exec.Cmd
	keys *os.File

	mu    sync.Mutex
	text  strings.Builder
	ended chan struct{} // all that it wrote has been read
}

// startOn starts the program on a terminal of so many columns and lines.
func (s *pair) startOn(columns, lines int, env []string, args ...string) *onTerminal {
	s.t.Helper()
	keyboard, name := openTerminal(s.t, columns, lines)
	side, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(s.t, err)
	defer side.Close()
	p := &onTerminal{t: s.t, keys: keyboard, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(s.t.Context(), binary, args...)
	p.cmd.Dir = s.t.TempDir()
	p.cmd.Env = append([]string{"HOME=" + p.cmd.Dir, "TERM=xterm"}, s.env...)
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = side, side, side
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(s.t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		buffer := make([]byte, 4096)
		for {
			n, err := keyboard.Read(buffer)
			p.mu.Lock()
			p.text.Write(buffer[:n])
			p.mu.Unlock()
			if err != nil { // EIO: the other side is closed
				return
			}
		}
	}()
	return p
}

// openTerminal returns the keyboard and screen of a new terminal, and the name of its other side.
func openTerminal(t *testing.T, columns, lines int) (*os.File, string) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = keyboard.Close() })
	fd := int(keyboard.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(columns), Row: uint16(lines)}))
	return keyboard, fmt.Sprintf("/dev/pts/%d", number)
}

func (p *onTerminal) written() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.ReplaceAll(p.text.String(), "\r\n", "\n")
}

// wait returns all that it wrote, and its exit code.
func (p *onTerminal) wait() (string, int) {
	p.t.Helper()
	_ = p.cmd.Wait()
	<-p.ended
	return p.written(), p.cmd.ProcessState.ExitCode()
}

// onTerminal runs the program to its end, which must be a good one.
func (s *pair) onTerminal(columns int, env []string, args ...string) string {
	s.t.Helper()
	text, code := s.startOn(columns, 50, env, args...).wait()
	require.Zero(s.t, code, text)
	return text
}

var control = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

func plain(text string) string { return control.ReplaceAllString(text, "") }

// requireFits says that no line is wider than the terminal.
func requireFits(t *testing.T, columns int, text string) {
	t.Helper()
	for line := range strings.Lines(plain(text)) {
		require.LessOrEqual(t, terminal.Width(strings.TrimRight(line, "\n")), columns, text)
	}
}

// longRuns are rows of runs that no terminal is wide enough for.
const longRuns = `INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome,
	error, note, read, applied, dead, profiles, chunks) VALUES
	('a', 'service', 'a-host-with-a-long-name', 'v1.2.3-45-gabcdef0', now() - interval '3 hours', now(), now(), 'stopped',
		NULL, NULL, 1234567, 1234567, 12, 1, 1),
	('b', 'drain', 'a-host-with-a-long-name', 'v1.2.3-45-gabcdef0', now() - interval '2 hours', now() - interval '1 hour',
		now() - interval '1 hour', 'failed',
		E'the role may not: 별주부전\nand the next line', NULL, 1234567, 0, 12, 1, 1),
	('c', 'search_text', 'h', 'v', now() - interval '2 hours', now() - interval '1 hour', now() - interval '1 hour',
		'done', NULL, NULL, 1, 1, 0, 0, 0)`

func TestTablesFitTheTerminal(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.exec(longRuns)
	s.push("1:1:LIKE", "junk which is long enough to be cut somewhere, wherever 별주부전 that may be", "2:1:LIKE")
	require.Zero(t, s.program("drain").code)
	for _, columns := range []int{80, 120} {
		text, _ := s.startOn(columns, 50, nil, "doctor").wait() // which finds that the servers of tests do not flush
		requireFits(t, columns, text)
		require.Contains(t, strings.Join(strings.Fields(plain(text)), " "),
			"-> set fsync to on in postgresql.conf, and reload")
	}

	s.exec(`INSERT INTO aggregator.lease VALUES ('book-like-events', 'a-host-with-a-long-name/12345/abcd', now(), now() ` +
		`+ interval '1 hour')`)
	for _, args := range []string{
		"status", "runs", "runs show 2", "dead list", "dead list --all", "checkpoint show", "migrate status", "verify",
	} {
		for _, columns := range []int{60, 80, 100, 120} {
			requireFits(t, columns, s.onTerminal(columns, nil, strings.Fields(args)...))
		}
	}

	// One line a run, and the columns go in order; in full it has them all.
	first := func(columns int, args ...string) string {
		line, _, _ := strings.Cut(plain(s.onTerminal(columns, nil, args...)), "\n")
		return strings.Join(strings.Fields(line), " ")
	}
	require.Equal(t, "ID KIND STARTED TOOK OUTCOME READ APPLIED DEAD RATE ERROR OR NOTE", first(120, "runs"))
	require.Equal(t, "ID KIND STARTED TOOK OUTCOME READ ERROR OR NOTE", first(80, "runs"))
	require.Equal(t, "ID KIND STARTED OUTCOME ERROR OR NOTE", first(60, "runs"))
	const all = "ID KIND STARTED TOOK OUTCOME READ APPLIED DEAD PROFILES CHUNKS RATE HOST VERSION ERROR OR NOTE"
	require.Equal(t, all, first(60, "runs", "-o", "wide"))
	wide := s.program("runs", "-o", "wide")
	wide.requireDone(t)
	require.Contains(t, wide.stdout, "the role may not: 별주부전 and the next line\n")
	require.Len(t, strings.Split(strings.TrimSpace(plain(s.onTerminal(60, nil, "runs"))), "\n"), 5)
	require.Contains(t, s.onTerminal(60, nil, "runs"), "…")

	// The checkpoints moved long ago, so that MOVED is as wide each time.
	s.exec(`UPDATE aggregator.checkpoint SET updated_at = now() - interval '30 minutes'`)
	table := func(columns int) string {
		return regexp.MustCompile(`(?m)^SOURCE.*$`).FindString(plain(s.onTerminal(columns, nil, "status")))
	}
	require.NotContains(t, table(100), "CHECKPOINT")
	require.Regexp(t, `^SOURCE +KEY +WAITING +OLDEST +RATE +CHECKPOINT +MOVED +SERVICE$`, table(140))
	require.Regexp(t, `^SOURCE +KEY +WAITING +OLDEST +RATE +MOVED +SERVICE$`, table(115))
	require.Regexp(t, `^SOURCE +WAITING +OLDEST +RATE +SERVICE$`, table(70))
}

// Colors are for terminals only, and not for those who do not want them.
func TestColors(t *testing.T) {
	s := newPair(t)
	s.exec(longRuns)
	require.Contains(t, s.onTerminal(120, nil, "runs"), "\x1b[31mfailed\x1b[0m")
	require.NotContains(t, s.onTerminal(120, []string{"NO_COLOR=1"}, "runs"), "\x1b")
	require.NotContains(t, s.onTerminal(120, []string{"TERM=dumb"}, "runs"), "\x1b")
	r := s.program("runs")
	r.requireDone(t)
	require.NotContains(t, r.stdout, "\x1b")
	require.NotContains(t, r.stdout, "…", "a pipe has no width")
	require.Contains(t, s.onTerminal(120, nil, "runs", "-o", "json"), `"kind": "service"`)
	require.NotContains(t, s.onTerminal(120, nil, "runs", "-o", "json"), "\x1b")
}

// A picture takes the place of the one before, has all that fits, and obeys keys.
func TestWatchOnTerminal(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.push("1:1:LIKE", "1:1:LIKE")
	for _, columns := range []int{60, 80, 100, 120} {
		p := s.startOn(columns, 20, nil, "status", "--watch=1h") // a look comes with a key only, after the first
		pictures := func() []string { return strings.Split(p.written(), "\x1b[H")[1:] }
		complete := func(n int) bool { return len(pictures()) >= n && strings.HasSuffix(p.written(), "\x1b[J") }
		require.Eventually(t, func() bool { return complete(1) }, patience, time.Millisecond)
		for n := 2; n < 4; n++ {
			_, err := p.keys.WriteString(" ")
			require.NoError(t, err)
			require.Eventually(t, func() bool { return complete(n) }, patience, time.Millisecond)
		}
		_, err := p.keys.WriteString("q")
		require.NoError(t, err)
		text, code := p.wait()
		require.Zero(t, code, text)
		for _, picture := range pictures() {
			requireFits(t, columns, picture)
			require.LessOrEqual(t, strings.Count(picture, "\n"), 19, "the first line would scroll away")
		}
		last := plain(pictures()[2])
		require.Regexp(t, `^\d{4}-\d\d-\d\dT\S+Z  \S+  every 1h0m0s  q: quit`, last)
		require.Regexp(t, `(?m)^\S+-events .*2 +███ `, last, "what waits did not change")
		require.Contains(t, last, "dead letters not settled: none")
	}

	// Ctrl-C ends it as well, and leaves the keyboard as it was.
	p := s.startOn(80, 20, nil, "status", "--watch=10ms")
	require.Eventually(t, func() bool { return strings.Contains(p.written(), "\x1b[J") }, patience, time.Millisecond)
	before := readTermios(t, p.keys)
	require.Zero(t, before.Lflag&(unix.ICANON|unix.ECHO))
	_, err := p.keys.WriteString("\x03")
	require.NoError(t, err)
	text, code := p.wait()
	require.Zero(t, code, text)
	require.NotZero(t, readTermios(t, p.keys).Lflag&unix.ICANON)
}

func readTermios(t *testing.T, f *os.File) *unix.Termios {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return state
}

// Into a pipe it writes one picture after the other, whole.
func TestWatchIntoPipe(t *testing.T) {
	s := newPair(t)
	cmd := exec.CommandContext(t.Context(), binary, "status", "--watch=10ms")
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"HOME=" + cmd.Dir}, s.env...)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout = write
	require.NoError(t, cmd.Start())
	require.NoError(t, write.Close())
	text := ""
	buffer := make([]byte, 4096)
	for strings.Count(text, "every 10ms") < 2 {
		n, err := read.Read(buffer)
		require.NoError(t, err, text)
		text += string(buffer[:n])
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	require.NotContains(t, text, "\x1b")
	require.NotContains(t, text, "quit")
	require.Regexp(t, `^\S+Z  \S+  every 10ms\n\nRedis  `, text)
	require.Contains(t, text, "CHECKPOINT")
}
