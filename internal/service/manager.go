package service

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"aggregator/internal/aggregator"
	"aggregator/internal/terminal"
)

// manager is the service manager that has started us, systemd or one that speaks its
// protocol, sd_notify(3). Without one every message goes nowhere.
type manager struct{ log *slog.Logger }

// tell sends one message; its parts are assignments such as READY=1.
func (m manager) tell(parts ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(parts, "\n")); err != nil {
		m.log.Warn("could not notify the service manager", "message", parts[0], "error", err)
	}
}

func (m manager) ready() { m.tell(daemon.SdNotifyReady) }

// reloading is to be followed by ready, whether the reload succeeds or not.
func (m manager) reloading() {
	m.tell(daemon.SdNotifyReloading, strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
}

// stopping asks for the time that the stop takes.
func (m manager) stopping(grace time.Duration) {
	m.tell(daemon.SdNotifyStopping, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (grace+10*time.Second).Microseconds()))
}

// loop is what the manager is told about; a service is one.
type loop interface {
	Status() []aggregator.Status
	Stats() aggregator.Stats
	Waiting(ctx context.Context) (int64, error)
}

const statusEvery = 10 * time.Second

// keepTelling reports that the loop is alive, and its state, until ctx ends.
func (m manager) keepTelling(ctx context.Context, l loop) {
	if listening, err := daemon.SdNotify(false, "STATUS=starting"); err != nil || !listening {
		return
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("not notifying the systemd watchdog", "error", err)
	}
	if interval > 0 {
		go every(ctx, interval/2, func() { m.feedWatchdog(l.Status()) })
	}
	before := l.Stats().Read
	m.tell("STATUS=" + describeService(ctx, l, 0))
	every(ctx, statusEvery, func() {
		read := l.Stats().Read
		rate := float64(max(0, read-before)) / statusEvery.Seconds() // a reload starts from zero
		before = read
		m.tell("STATUS=" + describeService(ctx, l, rate))
	})
}

// feedWatchdog says that we are alive, unless a loop hangs. A loop that waits for events, or for a server to
// come back, turns.
func (m manager) feedWatchdog(all []aggregator.Status) {
	for _, s := range all {
		if s.Hangs() {
			m.log.Error("the loop hangs; not notifying the systemd watchdog", "source", s.Source.Name(),
				"state", s.State, "last_turn", s.LastTurn.UTC().Format(time.RFC3339))
			return
		}
	}
	m.tell(daemon.SdNotifyWatchdog)
}

// describeService is one line for a person: states, rate, lag, and what is wrong if
// something is.
func describeService(ctx context.Context, l loop, rate float64) string {
	count := map[aggregator.State]int{}
	reason := ""
	all := l.Status()
	for _, s := range all {
		count[s.State]++
		if s.Reason != "" && reason == "" {
			reason = "; " + strings.Join(strings.Fields(s.Reason), " ")
		}
	}
	var states []string
	for _, state := range slices.Sorted(maps.Keys(count)) {
		if len(all) == 1 {
			states = append(states, string(state))
		} else {
			states = append(states, fmt.Sprintf("%d %s", count[state], state))
		}
	}
	lag := "unknown"
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if waiting, err := l.Waiting(ctx); err == nil {
		lag = terminal.Grouped(waiting)
	}
	return fmt.Sprintf("%s: %s events a second, %s waiting%s", strings.Join(states, ", "), terminal.Grouped(int64(rate)),
		lag, reason)
}
