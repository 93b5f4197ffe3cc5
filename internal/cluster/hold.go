package cluster

import (
	"context"
	"time"
)

// Standing is what a source is to this instance at one moment.
type Standing struct {
	Hold    *Hold           // it is ours to work on; nil: it is not
	Holder  string          // which instance has it; empty if none has, or that is not known
	Err     error           // why it is not known: PostgreSQL does not answer, or see ErrNameTaken
	Changed <-chan struct{} // closed when it may have changed
}

// Hold is the right to work on a source.
type Hold struct {
	ctx  context.Context
	done func()
}

// Context ends when the source is to be given up or is no longer this instance's, for the reason that
// context.Cause tells. It also ends with the context that was given to Ask.
func (h *Hold) Context() context.Context { return h.ctx }

// Done says that the work on the source has ended, so that another instance may have it. It must be called once.
func (h *Hold) Done() { h.done() }

// Ask says what a source is to this instance. It waits for nothing. A caller that gets a Hold has to call its
// Done; until then no other caller gets one.
func (k *Keeper) Ask(ctx context.Context, source string) Standing {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.own[source]
	if c == nil || c.giveUp || c.stop != nil || !time.Now().Before(k.deadline) {
		holder := k.now.holder[source]
		if holder == k.options.Name { // on its way to another instance, which is not known yet
			holder = ""
		}
		return Standing{Holder: holder, Err: k.err, Changed: k.changed}
	}
	held, stop := context.WithCancelCause(ctx)
	c.stop = stop
	return Standing{Hold: &Hold{held, func() { k.done(c) }}}
}

func (k *Keeper) done(c *claim) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c.stop(nil)
	c.stop = nil
	if c.giveUp {
		k.wake()
	}
	k.signal()
}
