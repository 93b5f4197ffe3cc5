package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"aggregator/internal/admin"
	"aggregator/internal/terminal"
)

// watch shows a report each time, whatever the servers do, until ctx ends. It shows one at once when it is
// told to look again, which never happens if the channel is nil.
func (l *look) watch(ctx context.Context, every time.Duration, again <-chan struct{},
	show func(*statusReport) error,
) error {
	before, err := l.survey(ctx)
	wait := min(every, rateOver) // the first picture is not long in coming
	for err == nil && restOr(ctx, wait, again) {
		wait = every
		var now admin.Survey
		if now, err = l.survey(ctx); err != nil || ctx.Err() != nil {
			break
		}
		report := newStatusReport(now, before, l.ask(ctx), l.Group())
		_ = l.addElsewhere(ctx, report)
		_ = l.addRuns(ctx, report) // it shows that they are not known
		before = now
		if err := show(report); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil // it was told to stop
	}
	return err
}

// restOr waits, at the latest until it is told to go on; false says that ctx has ended.
func restOr(ctx context.Context, d time.Duration, goOn <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-goOn:
	case <-time.After(d):
	}
	return true
}

// watchText shows the reports as text under a line that says when and where: on a terminal each in the
// place of the one before, with trends, and it obeys keys.
func (l *look) watchText(ctx context.Context, every time.Duration, wide bool) error {
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	again := make(chan struct{}, 1)
	obeys, restore := l.obeyKeys(func(key byte) {
		switch key {
		case 'q', 'Q', 4: // 4 is Ctrl-D
			quit()
		case ' ', '\r', '\n':
			select {
			case again <- struct{}{}:
			default:
			}
		}
	})
	defer restore()
	keys := "Ctrl-C: quit"
	if obeys {
		keys = "q: quit, space: look now"
	}
	screen := &screen{}
	seen := &trends{}
	return l.watch(ctx, every, again, func(r *statusReport) error {
		p := picture{Terminal: l.terminal(), wide: wide}
		var text strings.Builder
		head := fmt.Sprintf("%s  %s  every %s", r.at.UTC().Format(time.RFC3339), l.Host(), every)
		if p.Width > 0 {
			seen.add(r)
			p.trends, p.cut = seen, !wide
			head = terminal.Cut(head+"  "+keys, p.Width)
		}
		fmt.Fprintf(&text, "%s\n\n", p.Paint(head, terminal.Bold))
		if err := r.print(&text, p); err != nil {
			return err
		}
		return screen.show(l.stdout, p.Terminal, text.String())
	})
}

// screen shows texts in the same place of a terminal. The zero value is for the first one.
type screen struct{ width, height int }

// show writes the lines that fit. To a file it writes all, and an empty line.
func (s *screen) show(w io.Writer, to terminal.Terminal, text string) error {
	if to.Height == 0 || os.Getenv("TERM") == "dumb" {
		_, err := io.WriteString(w, text+"\n")
		return err
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	lines = lines[:min(len(lines), max(1, to.Height-1))]
	frame := "\x1b[H" // to the corner
	if *s != (screen{to.Width, to.Height}) {
		*s = screen{to.Width, to.Height}
		frame += "\x1b[2J" // clear all: lines of another width are anywhere
	}
	for _, line := range lines {
		frame += line + "\x1b[K\n" // clear what is left of an earlier line
	}
	_, err := io.WriteString(w, frame+"\x1b[J")
	return err
}

// trends are the latest values of each source.
type trends struct{ waiting, rate map[string][]float64 }

// trendLength is how many values are kept, which is more than fit.
const trendLength = 100

func (t *trends) add(r *statusReport) {
	if t.waiting == nil {
		t.waiting, t.rate = map[string][]float64{}, map[string][]float64{}
	}
	keep := func(all map[string][]float64, source string, value float64) {
		values := append(all[source], max(0, value))
		all[source] = values[max(0, len(values)-trendLength):]
	}
	for _, s := range r.Sources {
		if s.Waiting != nil {
			keep(t.waiting, s.Source, float64(*s.Waiting))
		}
		if s.Rate != nil {
			keep(t.rate, s.Source, *s.Rate)
		}
	}
}

// of draws those of a source, as fits into a terminal.
func (t *trends) of(source string, width int) (waiting, rate string) {
	if t == nil {
		return "", ""
	}
	length := max(6, min(20, width/10))
	return terminal.Spark(t.waiting[source], length), terminal.Spark(t.rate[source], length)
}

// obeyKeys calls press for each key from now on, as far as there is a keyboard to read and this
// process has it. restore gives it back.
func (a *app) obeyKeys(press func(key byte)) (obeys bool, restore func()) {
	nothing := func() {}
	keyboard := int(os.Stdin.Fd())
	if !isTerminal(a.stdout) || !isTerminal(os.Stdin) {
		return false, nothing
	}
	if group, err := unix.IoctlGetInt(keyboard, unix.TIOCGPGRP); err != nil || group != unix.Getpgrp() {
		return false, nothing // in the background
	}
	before, err := unix.IoctlGetTermios(keyboard, unix.TCGETS)
	if err != nil {
		return false, nothing
	}
	now := *before
	now.Lflag &^= unix.ICANON | unix.ECHO // Ctrl-C and Ctrl-Z stay signals
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(keyboard, unix.TCSETS, &now) != nil {
		return false, nothing
	}
	go func() { // until the program ends: what reads a keyboard cannot be stopped
		key := make([]byte, 1)
		for {
			if n, err := os.Stdin.Read(key); n == 0 || err != nil {
				return
			}
			press(key[0])
		}
	}()
	return true, func() { _ = unix.IoctlSetTermios(keyboard, unix.TCSETS, before) }
}
