package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// supervisor starts a service as systemd would by its unit, and does with it what the unit
// says: waits until it is ready, hands it its credentials, kills it when the watchdog gets
// no sign of life, starts it again or leaves it.
type supervisor struct {
	t           *testing.T
	unit        unit
	env         []string
	credentials string // folder
	watchdog    time.Duration
	socket      *net.UnixConn
	stopped     chan struct{} // closed when it is not started any more

	mu       sync.Mutex
	process  *os.Process
	starts   int
	exits    []int // exit codes; -1 for a signal
	stopping bool
	messages []string // received, whole
	seen     int      // how many of them await has passed
	log      strings.Builder
}

// patience bounds every wait for something that must happen.
const patience = time.Minute

type unit map[string][]string

// readUnit returns the settings of a unit's section [Service].
func readUnit(t *testing.T, name string) unit {
	t.Helper()
	f, err := os.Open(filepath.Join("../../config/systemd", name))
	require.NoError(t, err)
	defer f.Close()
	u, section := unit{}, ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			section = line
		}
		if key, value, found := strings.Cut(line, "="); found && section == "[Service]" && !strings.HasPrefix(line, "#") {
			u[key] = append(u[key], value)
		}
	}
	return u
}

func (u unit) one(t *testing.T, key string) string {
	t.Helper()
	require.Len(t, u[key], 1, key)
	return u[key][0]
}

// supervise starts aggregator.service. The store holds its credentials by the names that
// the unit looks for.
func supervise(t *testing.T, env []string, store map[string]string) *supervisor {
	t.Helper()
	s := &supervisor{t: t, unit: readUnit(t, "aggregator.service"), env: env, stopped: make(chan struct{})}
	require.Equal(t, "notify", s.unit.one(t, "Type"))
	require.Equal(t, "on-failure", s.unit.one(t, "Restart"))
	var err error
	s.watchdog, err = time.ParseDuration(s.unit.one(t, "WatchdogSec"))
	require.NoError(t, err)
	s.credentials = t.TempDir()
	for _, credential := range s.unit["LoadCredential"] {
		id, name, _ := strings.Cut(credential, ":")
		if secret, found := store[name]; found { // one that is not there is left out
			require.NoError(t, os.WriteFile(filepath.Join(s.credentials, id), []byte(secret), 0o400))
		}
	}
	return s
}

// start starts it and supervises it until the test ends.
func (s *supervisor) start() {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "notify") // the path of a socket must be short
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	address := &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"}
	s.socket, err = net.ListenUnixgram("unixgram", address)
	require.NoError(s.t, err)
	s.env = append(s.env, "PATH="+os.Getenv("PATH"), "HOME="+dir,
		"NOTIFY_SOCKET="+address.Name, fmt.Sprintf("WATCHDOG_USEC=%d", s.watchdog.Microseconds()),
		"CREDENTIALS_DIRECTORY="+s.credentials)
	received := make(chan string)
	go s.receive(received)
	go s.supervise(received)
	s.t.Cleanup(func() {
		s.stop()
		_ = s.socket.Close()
		if s.t.Failed() {
			s.t.Log(s.said())
		}
	})
}

func (s *supervisor) receive(received chan<- string) {
	defer close(received)
	buffer := make([]byte, 8192)
	for {
		n, err := s.socket.Read(buffer)
		if err != nil {
			return
		}
		received <- string(buffer[:n])
	}
}

func (s *supervisor) supervise(received <-chan string) {
	defer close(s.stopped)
	defer func() {
		go func() {
			for range received { // nobody is to wait for us
			}
		}()
	}()
	for {
		process, ended := s.spawn()
		code := s.attend(process, ended, received)
		s.mu.Lock()
		s.exits = append(s.exits, code)
		again := !s.stopping && code != 0 &&
			!slices.Contains(strings.Fields(s.unit.one(s.t, "RestartPreventExitStatus")), strconv.Itoa(code))
		s.mu.Unlock()
		if !again {
			return
		}
		time.Sleep(10 * time.Millisecond) // RestartSec
	}
}

func (s *supervisor) spawn() (*os.Process, <-chan int) {
	line := strings.Fields(s.unit.one(s.t, "ExecStart"))
	cmd := exec.CommandContext(s.t.Context(), binary, line[1:]...)
	cmd.Dir, cmd.Env = s.credentials, s.env // without a settings file
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = stderrOf{s}, stderrOf{s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmd.Start(); err != nil {
		s.t.Error(err)
	}
	s.process = cmd.Process
	s.starts++
	ended := make(chan int, 1)
	go func() {
		_ = cmd.Wait()
		ended <- cmd.ProcessState.ExitCode()
	}()
	return cmd.Process, ended
}

// attend watches over one process until it ends, and returns its exit code.
func (s *supervisor) attend(process *os.Process, ended <-chan int, received <-chan string) int {
	watchdog := time.NewTimer(patience) // TimeoutStartSec, until it is ready
	defer watchdog.Stop()
	for {
		select {
		case code := <-ended:
			return code
		case message := <-received:
			s.mu.Lock()
			s.messages = append(s.messages, message)
			s.mu.Unlock()
			if lines := strings.Split(message, "\n"); slices.Contains(lines, "READY=1") || slices.Contains(lines, "WATCHDOG=1") {
				watchdog.Reset(s.watchdog)
			}
		case <-watchdog.C:
			_ = process.Signal(syscall.SIGABRT)
			_ = process.Signal(syscall.SIGCONT) // as systemd does: one that is frozen takes no other
		}
	}
}

// stderrOf is where the service writes to.
type stderrOf struct{ *supervisor }

func (o stderrOf) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.log.Write(p)
}

var _ io.Writer = stderrOf{}

func (s *supervisor) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// until waits for a condition.
func (s *supervisor) until(what string, holds func() bool) {
	s.t.Helper()
	require.Eventually(s.t, holds, patience, 5*time.Millisecond, "not so: %s", what)
}

// await waits for the next message that matches, and returns it.
func (s *supervisor) await(pattern string) (found string) {
	s.t.Helper()
	matches := regexp.MustCompile(pattern).MatchString
	s.until("it says "+pattern, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for s.seen < len(s.messages) {
			found = s.messages[s.seen]
			s.seen++
			if matches(found) {
				return true
			}
		}
		return false
	})
	return found
}

// awaitLog waits until the service has logged something.
func (s *supervisor) awaitLog(text string) {
	s.t.Helper()
	s.until("it logs "+text, func() bool { return strings.Contains(s.said(), text) })
}

func (s *supervisor) signal(signal os.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
}

// reload does as ExecReload says.
func (s *supervisor) reload() {
	s.t.Helper()
	s.mu.Lock()
	line := strings.ReplaceAll(s.unit.one(s.t, "ExecReload"), "$MAINPID", strconv.Itoa(s.process.Pid))
	s.mu.Unlock()
	words := strings.Fields(line)
	said, err := exec.CommandContext(s.t.Context(), words[0], words[1:]...).CombinedOutput()
	require.NoError(s.t, err, "%s", said)
}

// stop stops it, and returns its last exit code.
func (s *supervisor) stop() int {
	s.t.Helper()
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.signal(syscall.SIGTERM)
	return s.ended()
}

// ended waits until it is not started any more, and returns its last exit code.
func (s *supervisor) ended() int {
	s.t.Helper()
	select {
	case <-s.stopped:
	case <-time.After(patience):
		require.Fail(s.t, "still running", "%s", s.said())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exits[len(s.exits)-1]
}

func (s *supervisor) started() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

// secretsOf takes the URLs of the servers out of an environment, as a credential store.
func secretsOf(env []string) (rest []string, store map[string]string) {
	names := map[string]string{
		"AGGREGATOR_REDIS_URL": "aggregator.redis-url", "AGGREGATOR_POSTGRES_URL": "aggregator.postgres-url",
	}
	store = map[string]string{}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if secret, found := names[name]; found {
			store[secret] = value + "\n"
		} else {
			rest = append(rest, entry)
		}
	}
	return rest, maps.Clone(store)
}
