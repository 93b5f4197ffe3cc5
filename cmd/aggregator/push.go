package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"aggregator/internal/events"
)

func newPush(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "push PROFILE BOOK ACTION",
		Short: "Push one event, to try out",
		Long: `Pushes one event to the source that the settings name, as a producer does: to the stream
or list, and with source.partitions to the one of the profile. It is for trying out: each call
connects again, and a role of Redis that may only drain is refused.

It refuses what would be a dead letter for its text, and does not look whether PostgreSQL
has the profile and the book. Each call pushes one event. If it fails for a lost reply, the
event may have been pushed: look before you repeat it.`,
		Example: `  aggregator push 1 42 LIKE
  aggregator push 1 42 DISLIKE -o json`,
		Args: exactly("PROFILE", "BOOK", "ACTION"),
	}
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, args []string) error {
		ctx, text := cmd.Context(), strings.Join(args, ":")
		event, reason, detail := events.NewDecoder(a.cfg.Events.Weights).Parse([]byte(text))
		if reason != "" {
			return usageError("%s would be a dead letter (%s): %s", text, reason, detail)
		}
		server, err := a.OpenRedis(ctx, 1)
		if err != nil {
			return err
		}
		defer server.Client.Close()
		sources, err := a.Sources(server)
		if err != nil {
			return err
		}
		pushed, err := events.Push(ctx, sources, event)
		if err != nil {
			return err
		}
		if out.json() {
			document := map[string]any{"event": text, "key": pushed.Key}
			if !pushed.Position.IsZero() {
				document["position"] = pushed.Position.String()
			}
			return writeJSON(a.stdout, document)
		}
		at := ""
		if !pushed.Position.IsZero() {
			at = ", position " + pushed.Position.String()
		}
		_, err = fmt.Fprintf(a.stdout, "pushed %s to %s%s\n", text, pushed.Key, at)
		return err
	})
	return cmd
}
