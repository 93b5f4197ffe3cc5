package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"aggregator/config"
	"aggregator/internal/admin"
	"aggregator/internal/postgres"
	"aggregator/internal/terminal"
)

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check or show the settings",
		Example: `  aggregator config check --config /etc/aggregator/aggregator.yaml
  aggregator config print --show-origin`,
	}
	cmd.AddCommand(newConfigCheck(a), newConfigPrint(a))
	return cmd
}

func newConfigCheck(a *app) *cobra.Command {
	var servers bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check whether the settings are valid",
		Long: `Prints ok, or a line for each error in the settings, and then exits with 78. It reads the files
of http.users_file, http.tokens_file and http.tls_cert_file too, so run it as the user of the
service. It connects to nothing, unless --servers is given: then it also connects to both
servers as the service would, and prints a line for each. A server that is not reachable is
exit code 69. One that refuses, or is another one than the settings say, is 78, and so is a
PostgreSQL that takes no writes. It changes nothing. aggregator doctor checks more.`,
		Example: `  aggregator config check
  aggregator config check --servers`,
	}
	cmd.Flags().BoolVar(&servers, "servers", false, "also connect to both servers")
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		_, access := a.cfg.Access(nil)
		_, certificate := a.cfg.HTTPCertificate()
		if err := errors.Join(access, certificate); err != nil {
			return err
		}
		if !servers {
			_, err := fmt.Fprintln(a.stdout, "ok")
			return err
		}
		return a.checkServers(cmd.Context())
	})
	return cmd
}

// checkServers connects to both servers, and prints a line for each that is as the settings say. The error is
// that of those that are not.
func (a *app) checkServers(ctx context.Context) error {
	to := a.terminal()
	var failed []error
	say := func(what, text string, err error) {
		if err != nil {
			failed = append(failed, err)
			return
		}
		fmt.Fprintf(a.stdout, "%s  %-10s  %s\n", to.Paint("ok", terminal.Green), what, text)
	}
	file := "no settings file is used"
	if name := a.cfg.File(); name != "" {
		file = "the settings file is " + name
	}
	say("settings", "valid; "+file, nil)
	text, err := a.checkRedis(ctx)
	say("Redis", text, err)
	text, err = a.checkPostgres(ctx)
	say("PostgreSQL", text, err)
	return errors.Join(failed...)
}

func (a *app) checkRedis(ctx context.Context) (string, error) {
	server, err := a.OpenRedis(ctx, 1)
	if err != nil {
		return "", err
	}
	defer server.Client.Close()
	defer server.CloseAt(ctx)()
	sources, err := a.Sources(server)
	if err != nil {
		return "", err
	}
	health := admin.AskRedis(ctx, server.Client)
	if health.Err != nil {
		return "", server.Failed(health.Err)
	}
	keys := sources[0].Key()
	if len(sources) > 1 {
		keys += " to " + sources[len(sources)-1].Key()
	}
	return fmt.Sprintf("%s at %s; %s %s", health.Version, server.Where(), a.cfg.Source.Kind, keys), nil
}

func (a *app) checkPostgres(ctx context.Context) (string, error) {
	pool, err := a.OpenPostgres(ctx, 1)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	var version string
	var standby, readOnly bool
	const sql = `SELECT split_part(current_setting('server_version'), ' ', 1), pg_is_in_recovery(),
		current_setting('default_transaction_read_only')::bool`
	if err := pool.QueryRow(ctx, sql).Scan(&version, &standby, &readOnly); err != nil {
		return "", err
	}
	where := postgres.Describe(string(a.cfg.Postgres.URL))
	switch {
	case standby:
		return "", tag(config.ErrInvalid, fmt.Errorf("PostgreSQL at %s is a standby: point postgres.url at the primary, "+
			"or add target_session_attrs=read-write to it", where))
	case readOnly:
		return "", tag(config.ErrInvalid, fmt.Errorf("PostgreSQL at %s: its transactions are read-only: "+
			"set default_transaction_read_only to off for the database and the role, and in postgres.url", where))
	}
	schema, err := postgres.CheckSchema(ctx, pool)
	if err != nil {
		return "", err
	}
	if err := a.CheckTables(ctx, pool); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s at %s; schema: %s", version, where, schema), nil
}

func newConfigPrint(a *app) *cobra.Command {
	var origins bool
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Show the settings in force, without passwords",
		Long: `Shows all settings as YAML, in the form of the settings file. Passwords are shown as xxxxx.
With --show-origin each line ends with where its value is from: a flag, a variable, the
line of a file, a file that holds a URL, or the default. The JSON form always has that.`,
		Example: `  aggregator config print
  aggregator config print --show-origin
  aggregator config print -o json`,
	}
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(*cobra.Command, []string) error {
		if out.json() {
			return writeJSON(a.stdout, map[string]any{"settings": a.cfg.List()})
		}
		return a.cfg.Print(a.stdout, origins)
	})
	cmd.Flags().BoolVar(&origins, "show-origin", false, "show where each value comes from")
	return cmd
}
