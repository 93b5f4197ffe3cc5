package journal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/scripts/loadgen/workload"
)

func outcomes(r *Run, n int64) string {
	var b strings.Builder
	for i := range n {
		o, _ := r.Outcome(i)
		b.WriteByte(byte(o))
	}
	return b.String()
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acked")
	one, two := workload.Defaults(), workload.Defaults()
	one.Count, two.Count, two.Seed = 10, 4, 2
	w, err := Append(path, one)
	require.NoError(t, err)
	require.NoError(t, w.Write(Sent, 0, 4))
	require.NoError(t, w.Write(Sent, 4, 8))
	require.NoError(t, w.Write(Acknowledged, 4, 8))
	require.NoError(t, w.Write(Acknowledged, 0, 2))
	require.NoError(t, w.Write(Unknown, 2, 3))
	require.NoError(t, w.Write(Refused, 3, 4))
	require.NoError(t, w.Write(Sent, 3, 4))
	require.NoError(t, w.Write(Acknowledged, 3, 4))
	require.NoError(t, w.Write(Sent, 8, 9))
	require.NoError(t, w.Close())
	w, err = Append(path, two)
	require.NoError(t, err)
	require.NoError(t, w.Close())

	runs, err := Read(path)
	require.NoError(t, err)
	require.Len(t, runs, 2)
	require.Equal(t, one, runs[0].Settings)
	require.Equal(t, two, runs[1].Settings)
	require.Equal(t, "aauaaaaaur", outcomes(runs[0], 10))
	require.Equal(t, "rrrr", outcomes(runs[1], 4))
	_, first := runs[0].Outcome(2)
	_, last := runs[0].Outcome(8)
	require.NotEqual(t, first, last)
}

func TestACrashCutsAtMostTheLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acked")
	s := workload.Defaults()
	w, err := Append(path, s)
	require.NoError(t, err)
	require.NoError(t, w.Write(Sent, 0, 200))
	require.NoError(t, w.Write(Acknowledged, 0, 150))
	require.NoError(t, w.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	for cut := 1; cut <= len("a 0-149\n"); cut++ {
		require.NoError(t, os.WriteFile(path, whole[:len(whole)-cut], 0o600))
		runs, err := Read(path)
		require.NoError(t, err)
		require.Equal(t, strings.Repeat("u", 200), outcomes(runs[0], 200))

		w, err = Append(path, s)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		runs, err = Read(path)
		require.NoError(t, err, "cut by %d", cut)
		require.Len(t, runs, 2)
	}
}

func TestOtherFilesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no push":     "a 0-1\n",
		"settings":    "push {\n",
		"word":        "push {}\nx 0-1\n",
		"backwards":   "push {}\na 5-1\n",
		"no range":    "push {}\na 5\n",
		"a huge one":  "push {}\na 0-99999999999999\n",
		"empty lines": "push {}\n\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(strings.NewReader(text))
			require.Error(t, err)
		})
	}
}

func TestNoWriterWritesNothing(t *testing.T) {
	var w *Writer
	require.NoError(t, w.Write(Sent, 0, 1))
	require.NoError(t, w.Close())
}

func TestCompleteRun(t *testing.T) {
	o, _ := Complete(workload.Defaults()).Outcome(1 << 30)
	require.Equal(t, Acknowledged, o)
}
