package service

import (
	"io"
	"log/slog"
	"testing"

	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func newTextLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// testLog shows all that is logged if the test fails.
func testLog(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
