package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLog(t *testing.T) {
	for name, tc := range map[string]struct{ level, format, want string }{
		"json":         {"info", "json", `"level":"INFO","msg":"kept"`},
		"text":         {"info", "text", "level=INFO msg=kept"},
		"no terminal":  {"info", "auto", `"level":"INFO","msg":"kept"`},
		"debug":        {"debug", "text", "level=DEBUG msg=detail"},
		"errors alone": {"error", "text", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			log := newLog(&out, logLevel(tc.level), tc.format)
			log.Debug("detail")
			log.Info("kept")
			if tc.want == "" {
				require.Empty(t, out.String())
				return
			}
			require.Contains(t, out.String(), tc.want)
		})
	}
}
