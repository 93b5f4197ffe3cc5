package main

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// However far a drain came, its bar ends when it does.
func TestBarEnds(t *testing.T) {
	for name, done := range map[string]int64{"nothing done": 0, "half done": 50, "done": 100, "more than there was": 150} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			b := newBar(&app{stderr: &out}, "things", 100)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				b.follow(ctx, func() int64 { return done })
			}()
			cancel()
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				require.Fail(t, "the bar does not end")
			}
		})
	}
}
