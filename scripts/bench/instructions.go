package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/rig"
)

// partInstructions counts the instructions that PostgreSQL's backends spend on a transaction of a profile, within
// CALL aggregator.apply_each, or apply_each_journaled with the journal: those of a drain of many profiles, less
// those of a drain of few, so that what comes once is left out. The database is that of A, drained: all marks and
// scores are there.
func (b *bench) partInstructions(ctx context.Context) error {
	if _, err := exec.LookPath("valgrind"); err != nil {
		b.log("  left out: valgrind is not installed")
		return nil
	}
	from, err := b.aged(ctx)
	if err != nil {
		return err
	}
	p := report.Part{When: time.Now().UTC().Truncate(time.Second)}
	for _, c := range []struct {
		name    string
		events  int64
		journal string // the setting
	}{
		{report.Each(10), 10, "0s"},
		{report.Each(1), 1, "0s"},
		{report.Journaled(10), 10, "1h"},
		{report.Journaled(1), 1, "1h"},
	} {
		few, err := b.instructions(ctx, from, b.few, c.events, keep+c.journal)
		if err != nil {
			return err
		}
		lots, err := b.instructions(ctx, from, b.lots, c.events, keep+c.journal)
		if err != nil {
			return err
		}
		f := rig.Figures{"kilo_instructions_per_tx": (lots - few) / float64(1000*(b.lots-b.few))}
		p.Series = append(p.Series, report.Series{Contender: c.name, Runs: []rig.Figures{f}})
	}
	b.keep("instructions", p)
	return nil
}

// instructions counts those of a drain, with a setting, of so many profiles with so many events each.
func (b *bench) instructions(
	ctx context.Context, from rig.State, profiles, each int64, setting string,
) (float64, error) {
	s := ofProfiles(each*profiles, profiles)
	from, err := from.With(ctx, s, oneEach{0, s.Count, profiles, s.Books})
	if err != nil {
		return 0, err
	}
	url, err := from.Restore(ctx)
	if err != nil {
		return 0, err
	}
	var server [3]string // the folders of its programs and its data, and its port
	for i, query := range []string{bindir, `SHOW data_directory`, `SHOW port`} {
		if server[i], err = b.servers.Ask(ctx, query); err != nil {
			return 0, err
		}
	}
	dir, err := os.MkdirTemp("", "callgrind")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	err = b.servers.Apart(ctx, func() error {
		return withCallgrind(ctx, dir, server[0], server[1], server[2], func() error {
			slow := "&connect_timeout=300&statement_timeout=0&lock_timeout=0"
			_, err := b.servers.Run(ctx, url+slow, []string{workers + "1", setting}, "drain")
			b.log("  drained %d profiles with %d events each under callgrind, %s", profiles, each, setting)
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	return counted(dir)
}

// withCallgrind does something while valgrind runs a PostgreSQL on the data, and leaves in dir what it counted, a
// file a process. The server runs as the owner of its data.
func withCallgrind(ctx context.Context, dir, bin, data, port string, do func() error) (err error) {
	runtime.LockOSThread() // the kernel takes the end of the thread that started a process for that of its parent
	defer runtime.UnlockOSThread()
	of, err := os.Stat(data)
	if err != nil {
		return err
	}
	owner := of.Sys().(*syscall.Stat_t)
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "valgrind", "--tool=callgrind", "--toggle-collect=ExecuteCallStmt",
		"--callgrind-out-file="+filepath.Join(dir, "%p"),
		filepath.Join(bin, "postgres"), "-D", data, "-h", "127.0.0.1", "-p", port, "-c", "unix_socket_directories=",
		"-c", "dynamic_shared_memory_type=mmap", "-c", "fsync=off", "-c", "autovacuum=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	cmd.Dir, cmd.Cancel = dir, func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { // a fast shutdown: when it ends all have written what they counted
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err = errors.Join(err, cmd.Wait()); err != nil {
			err = fmt.Errorf("PostgreSQL under valgrind: %w\n%s", err, said.Bytes())
		}
	}()
	for ready := false; !ready; time.Sleep(100 * time.Millisecond) {
		if err := errors.Join(ctx.Err(), cmd.Process.Signal(syscall.Signal(0))); err != nil {
			return err
		}
		status, _ := os.ReadFile(filepath.Join(data, "postmaster.pid")) // what pg_ctl looks at; not there at first
		lines := strings.Split(string(status), "\n")
		ready = len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready"
	}
	return do()
}

var total = regexp.MustCompile(`(?m)^(?:summary|totals): (\d+)`)

// counted is the sum of what callgrind counted in all processes, a file each.
func counted(dir string) (sum float64, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		if found := total.FindSubmatch(text); found != nil {
			n, err := strconv.ParseFloat(string(found[1]), 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	if sum == 0 {
		err = errors.New("callgrind counted nothing in any backend")
	}
	return sum, err
}
