package push

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/workload"
)

// span is the events from first up to, but not including, end.
type span struct{ first, end int64 }

func total(spans []span) (n int64) {
	for _, s := range spans {
		n += s.end - s.first
	}
	return n
}

// command makes the Redis command of an event.
type command func(ctx context.Context, key any, e *workload.Event) *redis.Cmd

func commandFor(s workload.Settings) command {
	if s.Kind == workload.Stream {
		return xadd
	}
	name := "lpush"
	if s.PushSide == workload.Right {
		name = "rpush"
	}
	return func(ctx context.Context, key any, e *workload.Event) *redis.Cmd {
		return redis.NewCmd(ctx, name, key, e.Text())
	}
}

func xadd(ctx context.Context, key any, e *workload.Event) *redis.Cmd {
	fields := e.Fields()
	args := make([]any, 3, 3+len(fields))
	args[0], args[1], args[2] = "xadd", key, "*"
	for _, f := range fields {
		args = append(args, f)
	}
	return redis.NewCmd(ctx, args...)
}

// part is a run of events of one outcome.
type part struct {
	span
	outcome journal.Outcome
}

// outcomes sorts the commands of a batch, of which the first is that of event first, by
// what became of them. The failure is that of the batch as a whole, if any.
func outcomes(first int64, commands []*redis.Cmd, failure error) []part {
	var parts []part
	for i, command := range commands {
		at, o := first+int64(i), outcomeOf(command, failure)
		if n := len(parts); n > 0 && parts[n-1].outcome == o {
			parts[n-1].end = at + 1
			continue
		}
		parts = append(parts, part{span{at, at + 1}, o})
	}
	return parts
}

func outcomeOf(command *redis.Cmd, failure error) journal.Outcome {
	// An answer is proof, whatever befell the batch after it.
	if command.Val() != nil {
		return journal.Acknowledged
	}
	err := command.Err()
	if err == nil {
		err = failure
	}
	if isRefusal(err) || neverSent(err) {
		return journal.Refused
	}
	return journal.Unknown
}

// isRefusal is true for an error that Redis itself answered: it did not do the command.
func isRefusal(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && !errors.Is(err, redis.Nil)
}

// neverSent is true when no connection could be made.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// lasting marks an error that no waiting cures.
type lasting struct{ error }

func (l lasting) Unwrap() error { return l.error }

// permanent is true for an error that waiting does not cure, such as a key of another
// type or a missing permission.
func permanent(err error) bool {
	if errors.As(err, new(lasting)) {
		return true
	}
	if neverSent(err) || !isRefusal(err) {
		return errors.Is(err, redis.ErrClosed)
	}
	for _, passing := range []string{
		"LOADING", "OOM", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "BUSY", "NOREPLICAS",
		"MISCONF",
		"ERR max number of clients", "UNBLOCKED",
	} {
		if strings.Contains(err.Error(), passing) {
			return false
		}
	}
	return true
}
