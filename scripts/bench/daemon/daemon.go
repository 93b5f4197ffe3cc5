// Package daemon runs the real aggregator as a process.
package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"aggregator/scripts/bench/meter"
)

// Daemon is how to start one: the binary, the servers and the settings, as variables, that
// differ from the defaults.
type Daemon struct {
	Binary      string
	RedisURL    string
	PostgresURL string
	Settings    []string
}

// Report is what `drain` said of itself.
type Report struct {
	Applied  int64 `json:"applied"`
	Dead     int64 `json:"dead"`
	Left     int64 `json:"left"`
	Profiles int64 `json:"profiles"`
	Chunks   int64 `json:"chunks"`
}

// Drained is a drain as seen from outside.
type Drained struct {
	Report
	Took time.Duration // from the start of the process to its end
	CPU  time.Duration
	Peak int64 // bytes of memory
}

// Drain runs `aggregator drain`. It fails unless every event was applied.
func (d Daemon) Drain(ctx context.Context) (Drained, error) {
	var stdout, stderr bytes.Buffer
	cmd := d.command(ctx, &stderr, "drain", "-o", "json")
	cmd.Stdout = &stdout
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return Drained{}, err
	}
	peak := watchMemory(cmd.Process.Pid)
	err := cmd.Wait()
	drained := Drained{Took: time.Since(began), CPU: used(cmd.ProcessState), Peak: peak()}
	if err != nil {
		return drained, fmt.Errorf("aggregator drain: %w\n%s", err, stderr.Bytes())
	}
	if err := json.Unmarshal(stdout.Bytes(), &drained.Report); err != nil {
		return drained, fmt.Errorf("the report of aggregator drain: %w\n%s", err, stdout.Bytes())
	}
	if drained.Dead > 0 || drained.Left > 0 {
		return drained, fmt.Errorf("aggregator drain made %d dead letters and left %d events", drained.Dead, drained.Left)
	}
	return drained, nil
}

// Purged is what `purge` said of itself.
type Purged struct {
	Deleted int64   `json:"deleted"`
	Thinned int64   `json:"thinned"`
	Busy    float64 `json:"busy_seconds"`
}

// Purge runs `aggregator purge`.
func (d Daemon) Purge(ctx context.Context) (purged Purged, err error) {
	var stdout, stderr bytes.Buffer
	cmd := d.command(ctx, &stderr, "purge", "-o", "json")
	cmd.Stdout = &stdout
	if err := cmd.Run(); err != nil {
		return purged, fmt.Errorf("aggregator purge: %w\n%s", err, stderr.Bytes())
	}
	if err := json.Unmarshal(stdout.Bytes(), &purged); err != nil {
		return purged, fmt.Errorf("the report of aggregator purge: %w\n%s", err, stdout.Bytes())
	}
	return purged, nil
}

// command is the aggregator in an environment that says no more than d does.
func (d Daemon) command(ctx context.Context, stderr *bytes.Buffer, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.Binary, args...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "AGGREGATOR_REDIS_URL=" + d.RedisURL, "AGGREGATOR_POSTGRES_URL=" + d.PostgresURL,
		"AGGREGATOR_CONFIG=" + os.DevNull, // not the file of this machine
	}, d.Settings...)
	cmd.Stderr = stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

func used(state *os.ProcessState) time.Duration { return state.UserTime() + state.SystemTime() }

// watchMemory looks at the peak memory of a process until the function returned is
// called: when it has ended, there is nothing left to look at.
func watchMemory(pid int) (peak func() int64) {
	var most int64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				most = max(most, meter.PeakMemory(pid))
			}
		}
	}()
	return func() int64 {
		close(done)
		<-ended
		return most
	}
}
