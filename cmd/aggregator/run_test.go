package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// process is a run that goes on until it is stopped.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	url string // of its listener
}

func (s *pair) start(args ...string) *process {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), binary, append([]string{"run", "--http-addr=127.0.0.1:0"}, args...)...)
	cmd.Dir = s.t.TempDir()
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir}, s.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	lines := bufio.NewReader(stderr)
	said := ""
	for {
		line, err := lines.ReadString('\n')
		said += line
		require.NoError(s.t, err, said)
		if found := regexp.MustCompile(`listening http\.addr=(\S+)`).FindStringSubmatch(line); found != nil {
			go func() { _, _ = io.Copy(s.t.Output(), lines) }()
			return &process{s.t, cmd, "http://" + found[1]}
		}
	}
}

func (p *process) get(path string) (int, string) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+path, nil)
	require.NoError(p.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(p.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(p.t, err)
	return response.StatusCode, string(body)
}

func (p *process) eventually(path, want string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		_, body := p.get(path)
		return strings.Contains(body, want)
	}, 30*time.Second, 20*time.Millisecond, "%s never said %s", path, want)
}

func TestRunShowsItself(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	p := s.start()
	p.eventually("/readyz", `"ready": true`)
	code, body := p.get("/healthz")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ok\n", body)
	_, body = p.get("/version")
	require.Contains(t, body, `"go": "go1.`)
	code, body = p.get("/")
	require.Equal(t, http.StatusOK, code)
	for _, path := range []string{"/readyz", "/healthz", "/metrics", "/version"} {
		require.Contains(t, body, `<a href=".`+path+`">`)
		code, _ = p.get(path)
		require.Equal(t, http.StatusOK, code, path)
	}
	require.NotContains(t, body, "pprof")
	code, _ = p.get("/nowhere")
	require.Equal(t, http.StatusNotFound, code)
	code, _ = p.get("/debug/pprof/")
	require.Equal(t, http.StatusNotFound, code)

	s.push("1:1:LIKE", "2:1:LIKE", "junk")
	p.eventually("/metrics", `aggregator_events_total{result="dead",source="book-like-events"} 2`)
	p.eventually("/metrics", `aggregator_queue_lag_events{source="book-like-events"} 0`)
	p.eventually("/metrics", `aggregator_dead_letters{reason="unknown_profile"} 1`)
	_, body = p.get("/metrics")
	for _, want := range []string{
		`aggregator_events_total{result="applied",source="book-like-events"} 1`,
		`aggregator_dependency_up{dependency="redis"} 1`, `aggregator_lease_held{source="book-like-events"} 1`,
		`aggregator_build_info{`, `go_goroutines `, `process_open_fds `,
	} {
		require.Contains(t, body, want)
	}
	_, status := s.status()
	require.NotNil(t, status.Sources[0].Lease)

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
}

// A second instance stands by, and is as ready as can be.
func TestRunStandsBy(t *testing.T) {
	s := newPair(t)
	s.exec(`INSERT INTO aggregator.lease VALUES ('book-like-events', 'somebody', now(), now() + interval '1 hour')`)
	p := s.start()
	p.eventually("/readyz", "standing by")
	code, body := p.get("/readyz")
	require.Equal(t, http.StatusOK, code, body)
	var answer struct {
		Sources map[string]struct{ State, Reason string }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.Equal(t, "the lease is with somebody", answer.Sources["book-like-events"].Reason)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
}

func TestRunPortInUse(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	program(t, nil, "run", "--http-addr", taken.Addr().String()).
		requireFailure(t, exitFailed, `http.addr = "`+taken.Addr().String()+`": bind: address already in use`)
	program(t, []string{"AGGREGATOR_HTTP_ADDR=x"}, "run").requireFailure(t, exitConfig, "http.addr")
}
