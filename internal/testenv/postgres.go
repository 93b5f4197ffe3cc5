package testenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// PostgresServer is a private PostgreSQL. Its methods are for one goroutine at a time.
type PostgresServer struct {
	folder   folder
	bin      string // folder of the binaries
	port     int
	settings []string
	secure   *serverTLS // nil: plain
	process  *process   // nil while stopped
	place    string     // of the data; empty: the folder
	memory   bool       // whether the folder should be in memory
}

// PostgresOption changes how StartPostgres sets a server up.
type PostgresOption func(*PostgresServer)

// Durable makes the server keep what is committed through Crash, as a production server
// does: everything about durability stays at PostgreSQL's defaults.
func Durable() PostgresOption {
	return func(s *PostgresServer) {
		s.settings = append(s.settings, "fsync=on", "full_page_writes=on", "synchronous_commit=on")
	}
}

// Setting gives the server a setting, as in "wal_writer_delay", "10s". Of two for the same
// name the later holds.
func Setting(name, value string) PostgresOption {
	return func(s *PostgresServer) { s.settings = append(s.settings, name+"="+value) }
}

// PostgresIn puts the data of the server into another folder, which becomes its user's, and
// which the test removes. A disk that loses its power is there for that.
func PostgresIn(dir string) PostgresOption { return func(s *PostgresServer) { s.place = dir } }

// inMemory keeps the folder in memory, if there is room: making a database, of some hundred files, took 50 ms of
// processor time there, and 240 ms on a disk.
func inMemory(s *PostgresServer) { s.memory = true }

// StartPostgres creates a cluster in a temporary folder and starts a server on it. ctx
// bounds the start only; the server runs until Stop, Crash or Close. On error nothing is
// left behind.
func StartPostgres(ctx context.Context, opts ...PostgresOption) (*PostgresServer, error) {
	bin, err := postgresBinaries(ctx)
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{bin: bin, settings: []string{
		"max_connections=200",
		"unix_socket_directories=",
		"timezone=UTC",
		"log_min_messages=log",
		// Shared memory in the folder goes away with it, also after a crash.
		"dynamic_shared_memory_type=mmap",
		"fsync=off", "full_page_writes=off", "synchronous_commit=off",
	}}
	for _, opt := range opts {
		opt(s)
	}
	at := os.TempDir()
	if s.memory {
		at = memory()
	}
	if s.folder, err = newFolderIn(at); err != nil {
		return nil, err
	}
	if err = s.folder.give(s.place); err == nil {
		err = s.createCluster(ctx)
	}
	if err == nil {
		err = s.writeCertificates()
	}
	if err == nil {
		s.port, err = s.folder.reservePort(ctx)
	}
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// URL is where the server listens, or will listen again. The database need not exist. With
// PostgresTLS its user speaks TLS and trusts any certificate.
func (s *PostgresServer) URL(database string) string {
	mode := "disable"
	if s.secure != nil {
		mode = "require"
	}
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=%s", address(s.port), database, mode)
}

// PID is the process of the server, its postmaster; zero while it is stopped.
func (s *PostgresServer) PID() int {
	if s.process == nil {
		return 0
	}
	return s.process.cmd.Process.Pid
}

// Start starts the server on the data and the port that it had, and returns when it
// accepts connections. A running server stays as it is.
func (s *PostgresServer) Start(ctx context.Context) error {
	if s.process != nil {
		return nil
	}
	args := []string{"-D", s.data(), "-h", "127.0.0.1", "-p", strconv.Itoa(s.port)}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	// SIGQUIT makes the postmaster take its children along and tidy up, SIGKILL would not.
	p, err := startProcess(ctx, s.folder, syscall.SIGQUIT, filepath.Join(s.bin, "postgres"), args...)
	if err != nil {
		return err
	}
	p.leaves = true
	// What counts is our own server's word, not an answer on the port: that might come from another.
	err = p.ready(ctx, func(context.Context) bool { return s.saysReady(p.cmd.Process.Pid) })
	if err != nil {
		return errors.Join(err, p.end(syscall.SIGQUIT))
	}
	s.process = p
	return nil
}

// Stop shuts the server down in order, cutting off its clients, and returns when all its
// processes are gone. A stopped server stays as it is.
func (s *PostgresServer) Stop() error { return s.end(syscall.SIGINT) }

// Crash ends the server as a crash would, without flushing or finishing anything, and
// returns when all its processes are gone. The next Start recovers from its log.
func (s *PostgresServer) Crash() error { return s.end(syscall.SIGQUIT) }

// CutOff ends all processes of the server by SIGKILL, as a power loss does, and returns when
// they are gone. It calls signalled when all have the signal: from then on a file system that
// holds them up may let go of them.
func (s *PostgresServer) CutOff(signalled func()) error {
	if s.process == nil {
		signalled()
		return nil
	}
	err := s.process.cutOff(signalled)
	s.process = nil
	return err
}

// Close ends the server and removes its data. It is safe to repeat.
func (s *PostgresServer) Close() error {
	return errors.Join(s.Crash(), s.folder.remove())
}

// CreateDatabase creates a database and returns its URL. If template is not empty the new
// one is a copy of it, and no session may be connected to the template meanwhile.
func (s *PostgresServer) CreateDatabase(ctx context.Context, name, template string) (string, error) {
	statement := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize()
	if template != "" {
		statement += " TEMPLATE " + pgx.Identifier{template}.Sanitize()
	}
	return s.URL(name), s.execute(ctx, statement)
}

// DropDatabase removes a database with all sessions that are connected to it.
func (s *PostgresServer) DropDatabase(ctx context.Context, name string) error {
	return s.execute(ctx, dropDatabase(name))
}

func dropDatabase(name string) string {
	return "DROP DATABASE IF EXISTS " + pgx.Identifier{name}.Sanitize() + " WITH (FORCE)"
}

func (s *PostgresServer) execute(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

func (s *PostgresServer) end(sig syscall.Signal) error {
	if s.process == nil {
		return nil
	}
	err := s.process.end(sig)
	s.process = nil
	return err
}

func (s *PostgresServer) data() string { return filepath.Join(cmp.Or(s.place, s.folder.path), "data") }

// saysReady reads what the postmaster tells pg_ctl: its process in the first line of
// postmaster.pid, its state in the eighth.
func (s *PostgresServer) saysReady(pid int) bool {
	file, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	lines := strings.Split(string(file), "\n")
	return err == nil && len(lines) >= 8 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
}

// postgresBinaries finds the folder with the server's binaries, which distributions keep
// out of the path.
func postgresBinaries(ctx context.Context) (string, error) {
	var candidates []string
	if output, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		candidates = append(candidates, strings.TrimSpace(string(output)))
	}
	candidates = append(candidates, newestFirst("/usr/lib/postgresql/*/bin")...)
	if path, err := exec.LookPath("postgres"); err == nil {
		candidates = append(candidates, filepath.Dir(path))
	}
	for _, dir := range candidates {
		if executable(filepath.Join(dir, "postgres")) && executable(filepath.Join(dir, "initdb")) {
			return dir, nil
		}
	}
	return "", errors.New("the PostgreSQL server is not installed: run scripts/provision")
}

func executable(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}

// newestFirst sorts folders named after a version, .../<version>/bin, the highest first.
func newestFirst(pattern string) []string {
	dirs, _ := filepath.Glob(pattern)
	version := func(dir string) float64 {
		v, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(dir)), 64)
		return v
	}
	slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
	return dirs
}
