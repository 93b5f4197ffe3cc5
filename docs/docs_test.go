// Package docs_test keeps the documents in step with each other and with go.mod.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// documents returns the text of every document of the project, by its path from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	root := os.DirFS("..")
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/decisions/*.md"} {
		paths, err := fs.Glob(root, pattern)
		require.NoError(t, err)
		for _, path := range paths {
			text, err := fs.ReadFile(root, path)
			require.NoError(t, err)
			all[path] = string(text)
		}
	}
	require.Contains(t, all, "README.md")
	require.Contains(t, all, "docs/design.md")
	return all
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	markup  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// slugs returns the names by which a document's headings are linked to.
func slugs(text string) map[string]bool {
	all := make(map[string]bool)
	for _, found := range heading.FindAllStringSubmatch(text, -1) {
		title := strings.ToLower(markup.ReplaceAllString(found[1], "$1"))
		all[strings.ReplaceAll(noSlug.ReplaceAllString(title, ""), " ", "-")] = true
	}
	return all
}

// Every link to a file leads to one, and every link to a heading to a heading.
func TestLinks(t *testing.T) {
	all := documents(t)
	checked := 0
	for path, text := range all {
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			checked++
			to := path
			if target != "" {
				to = filepath.Join(filepath.Dir(path), target)
				_, err := os.Stat(filepath.Join("..", to))
				require.NoError(t, err, "%s links to %s", path, found[1])
			}
			if anchor != "" {
				require.True(t, slugs(all[to])[anchor], "%s links to %s, and %s has no such heading", path, found[1], to)
			}
		}
	}
	require.Greater(t, checked, 50)
}

// docs/dependencies.md has a row for each direct dependency of all modules, and no other.
func TestDependencies(t *testing.T) {
	mods, err := filepath.Glob("../scripts/*/go.mod")
	require.NoError(t, err)
	require.NotEmpty(t, mods)
	var direct, described []string
	for _, path := range append(mods, "../go.mod") {
		mod, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, found := range regexp.MustCompile(`(?m)^\t(\S+/\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1) {
			if !slices.Contains(direct, found[1]) {
				direct = append(direct, found[1])
			}
		}
	}
	row := regexp.MustCompile("(?m)^\\| `(\\S+/\\S+)` \\|")
	for _, found := range row.FindAllStringSubmatch(documents(t)["docs/dependencies.md"], -1) {
		described = append(described, found[1])
	}
	require.ElementsMatch(t, direct, described)
}
