package aggregator

import "context"

// rewrite has Redis write its append-only file anew if it was restarted, before anything is moved
// (events.Source.Rewrite). It is a safeguard: if it fails, the attempt goes on.
func (p *partition) rewrite(ctx context.Context) {
	done, err := p.source.Rewrite(ctx)
	switch {
	case done.RunID == "":
		p.log.Debug("cannot tell whether Redis was restarted", "error", err)
	case err == nil && done.Asked:
		p.log.Info("Redis was started: asked it to write its append-only file anew, which a power loss may have cut", "run_id", done.RunID)
	case err != nil:
		if _, told := p.refused.LoadOrStore(done.RunID, true); told {
			return
		}
		p.log.Warn("Redis was started, and does not write its append-only file anew for us: if a power loss has cut the file within a transaction, "+
			"the next restart loses events. Run BGREWRITEAOF now, and give the user +bgrewriteaof; or set aof-load-truncated no, and mend the file "+
			"with redis-check-aof --fix before a start", "run_id", done.RunID, "error", err)
	}
}
