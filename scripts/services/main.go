// Services runs a command with a private Redis and PostgreSQL beside it, and removes both
// when the command ends.
//
//	go run ./scripts/services [--durable=false] -- command [argument...]
//
// The command finds the servers in AGGREGATOR_REDIS_URL and AGGREGATOR_POSTGRES_URL, the
// latter naming an empty database; if both are set already, it is given those and nothing
// is started. Without a command the two are printed for a shell to read, and the servers
// run until interrupted, which stderr says. The servers flush to disk as in production unless
// --durable=false.
//
// Services ends with the exit code of the command, 128 plus the signal's number if a
// signal ended it, 69 if the servers do not start and 64 for wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"aggregator/internal/testenv"
)

const usage = `usage: services [--durable=false] [-- command [argument...]]

Runs a command with a private Redis and PostgreSQL beside it, and removes both when it ends:

    bin/services -- bash

The command finds them in AGGREGATOR_REDIS_URL and AGGREGATOR_POSTGRES_URL. If both are set
already, it is given those and nothing is started. Without a command, services prints the two
variables, and the servers run until Ctrl-C.

  --durable=false  do not flush to disk: faster, and a crash of the machine loses data
`

const running = `services: a private Redis and PostgreSQL are running, with an empty database.
In another terminal, enter the two lines that follow. Ctrl-C here stops both servers and removes their data.
`

const (
	redisVariable    = "AGGREGATOR_REDIS_URL"
	postgresVariable = "AGGREGATOR_POSTGRES_URL"
	database         = "aggregator"

	exitUsage       = 64
	exitUnavailable = 69
)

func main() { os.Exit(run()) }

func run() int {
	flags := flag.NewFlagSet("services", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	durable := flags.Bool("durable", true, "flush to disk as in production")
	switch err := flags.Parse(os.Args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	}

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)

	if os.Getenv(redisVariable) != "" && os.Getenv(postgresVariable) != "" {
		fmt.Fprintf(os.Stderr, "services: using the servers of %s and %s\n", redisVariable, postgresVariable)
		if flags.NArg() == 0 {
			fmt.Fprintln(os.Stderr, "services: nothing to start, and no command to run; unset the two variables for private "+
				"servers")
			return 0
		}
		return command(flags.Args(), os.Environ(), signals)
	}

	var started servers
	defer started.close()
	urls, got, err := startServers(&started, *durable, signals)
	switch {
	case got != nil:
		return 128 + int(got.(syscall.Signal))
	case err != nil:
		fmt.Fprintln(os.Stderr, "services:", err)
		return exitUnavailable
	}
	if flags.NArg() == 0 {
		fmt.Fprint(os.Stderr, running)
		for _, url := range urls {
			fmt.Println("export " + url)
		}
		<-signals
		fmt.Fprintln(os.Stderr, "services: stopping both servers, and removing their data")
		return 0
	}
	return command(flags.Args(), append(os.Environ(), urls...), signals)
}

// startServers starts both and returns the variables that say where they are. A signal
// that arrives meanwhile ends the attempt and is returned.
func startServers(s *servers, durable bool, signals <-chan os.Signal) ([]string, os.Signal, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	type result struct {
		urls []string
		err  error
	}
	started := make(chan result, 1)
	go func() {
		urls, err := s.start(ctx, durable)
		started <- result{urls, err}
	}()
	select {
	case r := <-started:
		return r.urls, nil, r.err
	case got := <-signals:
		cancel()
		<-started
		return nil, got, nil
	}
}

type servers struct {
	redis    *testenv.RedisServer
	postgres *testenv.PostgresServer
}

func (s *servers) start(ctx context.Context, durable bool) ([]string, error) {
	var redisOptions []testenv.RedisOption
	var postgresOptions []testenv.PostgresOption
	if durable {
		redisOptions = append(redisOptions, testenv.AppendOnly())
		postgresOptions = append(postgresOptions, testenv.Durable())
	}
	var err error
	if s.redis, err = testenv.StartRedis(ctx, redisOptions...); err != nil {
		return nil, err
	}
	if s.postgres, err = testenv.StartPostgres(ctx, postgresOptions...); err != nil {
		return nil, err
	}
	url, err := s.postgres.CreateDatabase(ctx, database, "")
	if err != nil {
		return nil, err
	}
	return []string{redisVariable + "=" + s.redis.URL(), postgresVariable + "=" + url}, nil
}

func (s *servers) close() {
	var err error
	if s.postgres != nil {
		err = s.postgres.Close()
	}
	if s.redis != nil {
		err = errors.Join(err, s.redis.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
	}
}
