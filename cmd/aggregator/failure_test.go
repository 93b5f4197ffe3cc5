package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// mute is a server that takes connections, and says nothing. taken is told of each.
func mute(t *testing.T) (address string, taken <-chan struct{}) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	told := make(chan struct{}, 100)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			told <- struct{}{}
		}
	}()
	return listener.Addr().String(), told
}

// What goes on the next time has not failed because it was told to stop, however early. Of
// anything else nobody must think that it was done.
func TestToldToStopWhileItConnects(t *testing.T) {
	s := newPair(t)
	for command, code := range map[string]int{
		"run": exitDone, "drain": exitDone, "drain --dry-run": exitDone, "purge": exitDone, "search-text": exitDone,
		"migrate up": 143, "migrate status": 143, "status": 143, "verify": 143, "dead list": 143,
		"dead retry --all-unsettled": 143, "runs": 143,
		"doctor": 143, "history 1": 143, "checkpoint show": 143, "checkpoint reset": 143,
	} {
		for server, variable := range map[string]string{
			"PostgreSQL": "AGGREGATOR_POSTGRES_URL=postgres://u@{}/app", "Redis": "AGGREGATOR_REDIS_URL=redis://{}",
		} {
			args := strings.Fields(command)
			if server == "Redis" && !slices.Contains(
				[]string{"run", "drain", "drain --dry-run", "status", "verify", "doctor", "checkpoint reset"}, command) {
				continue
			}
			t.Run(command+" "+server, func(t *testing.T) {
				address, taken := mute(t)
				cmd := exec.CommandContext(t.Context(), binary, append(args, "--http-addr=")...)
				cmd.Dir = t.TempDir()
				cmd.Env = append([]string{"HOME=" + cmd.Dir}, s.env...)
				cmd.Env = append(cmd.Env, strings.ReplaceAll(variable, "{}", address), "AGGREGATOR_LOG_FORMAT=json")
				var said bytes.Buffer
				cmd.Stderr = &said
				require.NoError(t, cmd.Start())
				ended := make(chan struct{})
				go func() { _ = cmd.Wait(); close(ended) }()
				select {
				case <-taken:
					require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
					<-ended
				case <-ended:
				}
				require.Equal(t, code, cmd.ProcessState.ExitCode(), said.String())
				require.Equal(t, 1, strings.Count(said.String(), "\n"), said.String())
				if code == exitDone {
					require.Contains(t, said.String(), `"level":"INFO","msg":"stopped; the next run continues from here","signal":"`)
					return
				}
				require.Equal(t, "aggregator: stopped by a signal: terminated\n", said.String())
			})
		}
	}
}

// The last line of a run or a drain that failed says why, in every form of the log.
func TestLastLineSaysWhy(t *testing.T) {
	for _, command := range []string{"run", "drain"} {
		for code, tc := range map[int]struct{ variable, why string }{
			exitConfig: {"AGGREGATOR_SOURCE_KIND=queue", `source.kind = "queue"`},
			exitUnreachable: {
				"AGGREGATOR_POSTGRES_URL=postgres://u@127.0.0.1:1/app",
				"PostgreSQL at 127.0.0.1:1/app is not reachable",
			},
		} {
			for format, level := range map[string]string{
				"auto": `"level":"ERROR"`, "json": `"level":"ERROR"`, "text": "level=ERROR", "journal": "level=ERROR",
			} {
				r := program(t, []string{tc.variable, "AGGREGATOR_LOG_FORMAT=" + format}, command, "--http-addr=")
				r.requireFailure(t, code, tc.why)
				require.Contains(t, r.stderr, level)
			}
		}
	}
	s := newPair(t)
	s.push("1:1:LIKE")
	s.exec(`REVOKE UPDATE ON aggregator.checkpoint FROM aggregator_daemon`)
	for _, command := range []string{"run", "drain"} {
		r := program(t, append(s.env, "AGGREGATOR_LOG_FORMAT=json"), command, "--http-addr=")
		require.Equal(t, exitFailed, r.code)
		lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
		var last struct {
			Level, Msg, Error string
			Code              int `json:"exit_code"`
		}
		require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
		require.Equal(t, "ERROR", last.Level)
		require.Equal(t, command+" failed", last.Msg)
		require.Contains(t, last.Error, "permission denied for table checkpoint")
		require.Equal(t, exitFailed, last.Code)
	}
}

// A service whose log nobody reads any more goes on.
func TestRunOutlivesItsLog(t *testing.T) {
	s := newPair(t)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), binary, "run", "--http-addr=", "--log-level=debug")
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"HOME=" + cmd.Dir}, s.env...)
	cmd.Stdout, cmd.Stderr = write, write
	require.NoError(t, cmd.Start())
	require.NoError(t, write.Close())
	line, err := bufio.NewReader(read).ReadString('\n')
	require.NoError(t, err)
	require.NotEmpty(t, line)
	require.NoError(t, read.Close())
	s.push("1:1:LIKE")
	s.settled("1")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
}

// Behind head a command ends quietly, and a drain says by its code what it always says.
func TestReaderOfTheOutputHasGone(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.push("1:1:LIKE", "junk", "junk")
	for _, tc := range []struct {
		args string
		code int
	}{
		{"drain --max-events 2", exitEventsLeft},
		{"drain", exitDone},
		{"runs", exitDone},
		{"runs -o json", exitDone},
		{"dead list --limit 0 -o json", exitDone},
		{"status", exitDone},
		{"status --watch=10ms -o json", exitDone},
		{"help", exitDone},
		{"config print", exitDone},
		{"verify", exitDone},
	} {
		t.Run(tc.args, func(t *testing.T) {
			read, write, err := os.Pipe()
			require.NoError(t, err)
			require.NoError(t, read.Close())
			cmd := exec.CommandContext(t.Context(), binary, strings.Fields(tc.args)...)
			cmd.Dir = t.TempDir()
			cmd.Env = append([]string{"HOME=" + cmd.Dir}, s.env...)
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = write, &said
			require.NoError(t, cmd.Start())
			require.NoError(t, write.Close())
			_ = cmd.Wait()
			require.Equal(t, tc.code, cmd.ProcessState.ExitCode(), said.String())
			require.NotContains(t, said.String(), "ERROR")
			require.NotContains(t, said.String(), "pipe")
		})
	}
}
