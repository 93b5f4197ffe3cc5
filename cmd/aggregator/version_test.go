package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersion(t *testing.T) {
	r := program(t, nil, "version")
	require.Equal(t, exitDone, r.code, r.stderr)
	require.Regexp(t, `^aggregator \S+ \(go1\.\d+\S*, `+runtime.GOOS+`/`+runtime.GOARCH+`\)\n$`, r.stdout)
	require.Empty(t, r.stderr)
	require.Equal(t, r, program(t, nil, "--version"), "the flag and the command differ")

	var document struct{ Version, Go, Platform string }
	require.NoError(t, json.Unmarshal([]byte(program(t, nil, "version", "-o", "json").stdout), &document))
	require.Equal(t, r.stdout, "aggregator "+document.Version+" ("+document.Go+", "+document.Platform+")\n")
}

func TestRecordedVersion(t *testing.T) {
	for _, c := range []struct{ name, recorded, want string }{
		{"a tag", "v1.2.3", "1.2.3"},
		{"a commit after none", "v0.0.0-20261122112334-45c83d3f0c1e", "0.0.0-20261122112334-45c83d3f0c1e"},
		{"changed since", "v1.2.4-0.20261122112334-45c83d3f0c1e+dirty", "1.2.4-0.20261122112334-45c83d3f0c1e+dirty"},
		{"built without its repository", "(devel)", "unknown"},
		{"a test", "", "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, recordedVersion(&debug.BuildInfo{Main: debug.Module{Version: c.recorded}}))
		})
	}
	require.Equal(t, "unknown", recordedVersion(nil))
}
