package main

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDescribe(t *testing.T) {
	got := describe("program", "1.2+3", "2026-11-22T00:00:00Z", &debug.BuildInfo{
		GoVersion: "go1.26.8",
		Main:      debug.Module{Path: "example.org/program", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "example.org/One/v2", Version: "v2.0.1", Sum: "h1:abc="},
			{Path: "example.org/two", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/fork", Version: "v1.0.1"}},
		},
		Settings: []debug.BuildSetting{{Key: "-trimpath", Value: "true"}, {Key: "GOARCH", Value: "arm64"}},
	})
	require.Equal(t, document{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: metadata{"2026-11-22T00:00:00Z", component{
			Type: "application", Name: "program", Version: "1.2+3",
			Ref: "pkg:golang/example.org/program@1.2%2B3", PURL: "pkg:golang/example.org/program@1.2%2B3",
			Properties: []property{{"go:GOARCH", "arm64"}},
		}},
		Components: []component{
			{
				Type: "library", Name: "stdlib", Version: "1.26.8",
				Ref: "pkg:golang/stdlib@1.26.8", PURL: "pkg:golang/stdlib@1.26.8",
			},
			{
				Type: "library", Name: "example.org/One/v2", Version: "v2.0.1",
				Ref: "pkg:golang/example.org/one/v2@v2.0.1", PURL: "pkg:golang/example.org/one/v2@v2.0.1",
				Properties: []property{{"go:sum", "h1:abc="}},
			},
			{
				Type: "library", Name: "example.org/fork", Version: "v1.0.1",
				Ref: "pkg:golang/example.org/fork@v1.0.1", PURL: "pkg:golang/example.org/fork@v1.0.1",
			},
		},
		Dependencies: []dependency{{"pkg:golang/example.org/program@1.2%2B3", []string{
			"pkg:golang/stdlib@1.26.8", "pkg:golang/example.org/one/v2@v2.0.1", "pkg:golang/example.org/fork@v1.0.1",
		}}},
	}, got)
}

func TestSourceDate(t *testing.T) {
	for _, c := range []struct{ name, set, want, err string }{
		{"none", "", "", ""},
		{"a time", "1795346614", "2026-11-22T11:23:34Z", ""},
		{"no number", "today", "", "SOURCE_DATE_EPOCH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("SOURCE_DATE_EPOCH", c.set)
			got, err := sourceDate()
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}
