package main

import (
	"context"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress shows how far a drain, or another job, is until end is called.
type progress struct{ end func() }

// showProgress shows a bar with rate and time left on a terminal, and otherwise a line in the log now and
// then: what goes on, and how many of how many things are done.
func (a *app) showProgress(doing, things string, total int64, done func() int64, quiet bool) progress {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	if isTerminal(a.stderr) && !quiet && total > 0 { // a bar of nothing would stand there, empty
		bar := newBar(a, things, total)
		go func() {
			defer close(ended)
			bar.follow(ctx, done)
		}()
	} else {
		go func() {
			defer close(ended)
			a.logHowFar(ctx, doing, total, done)
		}()
	}
	return progress{end: func() {
		cancel()
		<-ended
	}}
}

func (a *app) logHowFar(ctx context.Context, doing string, total int64, done func() int64) {
	const every = 5 * time.Second
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	before := done()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := done()
			a.log.Info(doing, "done", now, "of", max(total, now), "per_second", (now-before)/int64(every/time.Second))
			before = now
		}
	}
}

type bar struct {
	all   *mpb.Progress
	bar   *mpb.Bar
	total int64
}

func newBar(a *app, things string, total int64) *bar {
	all := mpb.New(mpb.WithOutput(a.stderr), mpb.WithWidth(60), mpb.WithRefreshRate(100*time.Millisecond))
	b := &bar{all: all, total: total, bar: all.AddBar(0, // a bar that begins with a total could not grow
		mpb.PrependDecorators(decor.CountersNoUnit("%d / %d "+things+" ")),
		mpb.AppendDecorators(
			decor.Percentage(decor.WC{W: 5}),
			decor.AverageSpeed(0, "  %.0f/s"),
			decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}), ""),
		),
	)}
	b.bar.SetTotal(total, false)
	return b
}

// follow moves the bar until the context ends. The total grows when events arrive.
func (b *bar) follow(ctx context.Context, done func() int64) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			b.move(done())
			if b.bar.Current() < b.total {
				b.bar.Abort(false) // it stays as it is
			} else {
				b.bar.SetTotal(-1, true)
			}
			b.all.Wait()
			return
		case <-ticker.C:
			b.move(done())
		}
	}
}

func (b *bar) move(now int64) {
	if now > b.total {
		b.total = now
		b.bar.SetTotal(now, false)
	}
	b.bar.SetCurrent(now)
}
