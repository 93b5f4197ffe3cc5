package aggregator

import "context"

// rewrite has Redis write a new append-only file if Redis was restarted, before anything is moved
// (events.Source.Rewrite). It is a safeguard: if it fails, the attempt goes on.
func (p *partition) rewrite(ctx context.Context) {
	done, err := p.source.Rewrite(ctx)
	switch {
	case done.RunID == "":
		p.log.Debug("cannot tell whether Redis was restarted", "error", err)
	case err == nil && done.Asked:
		p.log.Info("Redis was restarted: asked it to rewrite its append-only file, which a power loss may have truncated",
			"run_id", done.RunID)
	case err != nil:
		if _, told := p.refused.LoadOrStore(done.RunID, true); told {
			return
		}
		p.log.Warn("Redis was restarted, and could not be asked to rewrite its append-only file: if a power loss has "+
			"truncated the file within a transaction, "+
			"the next restart loses events. Run BGREWRITEAOF now, and give the user +bgrewriteaof; or set aof-load-truncated "+
			"no, and repair the file "+
			"with redis-check-aof --fix before a start", "run_id", done.RunID, "error", err)
	}
}
