package events

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Rewrite is what came of asking a server to rewrite its append-only file.
type Rewrite struct {
	RunID string // of the server, another after each start; empty if it does not say
	Asked bool   // it was asked, and does so in the background
}

// Rewrite asks the server that holds the source to rewrite its append-only file (BGREWRITEAOF), if it has not
// done so since it started, or failed to. It does not wait for the end of it.
//
// If a power loss cut the file within a transaction, Redis (aof-load-truncated yes) starts with the MULTI
// left open in it. All that is appended then belongs to that transaction. The next start drops it, or, after
// the EXEC of a later transaction, also carries out what was cut off. A rewrite begins a new file at once,
// and replaces the damaged one when it is done. A list's move is such a transaction, and so are those of
// other clients: MULTI, their scripts, XREADGROUP.
//
// An error with a RunID means that the server refused, as it does where the user may not run BGREWRITEAOF. An
// error without one means that it is not known whether there is something to do. Safe to repeat.
func (s *Source) Rewrite(ctx context.Context) (Rewrite, error) {
	node, err := s.node(ctx)
	if err != nil {
		return Rewrite{}, s.failed("finding the server of", err)
	}
	info, err := node.InfoMap(ctx, "server", "persistence").Result()
	if err != nil {
		return Rewrite{}, s.failed("asking for the server of", err)
	}
	server := Rewrite{RunID: info["Server"]["run_id"]}
	if !torn(info["Persistence"]) {
		return server, nil
	}
	var refused redis.Error
	switch err := node.BgRewriteAOF(ctx).Err(); {
	case err == nil || strings.Contains(err.Error(), "already in progress"): // another instance has asked
		server.Asked = true
		return server, nil
	case errors.As(err, &refused):
		return server, fmt.Errorf("asking Redis to rewrite its append-only file: %w", err)
	default:
		return Rewrite{}, s.failed("asking the server of", err)
	}
}

// torn says whether a server's append-only file may have been cut before the server started: since then it
// has not been rewritten.
func torn(persistence map[string]string) bool {
	switch {
	case persistence["aof_enabled"] != "1",
		persistence["aof_rewrite_in_progress"] == "1", persistence["aof_rewrite_scheduled"] == "1":
		return false
	default:
		return persistence["aof_rewrites"] == "0" || persistence["aof_last_bgrewrite_status"] == "err"
	}
}

// node is the server that holds the source: of a cluster, the master of its slot.
func (s *Source) node(ctx context.Context) (redis.Cmdable, error) {
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, s.stream)
	}
	return s.client, nil
}
