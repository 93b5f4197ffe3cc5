package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// banned are words for which the glossary has others.
var banned = regexp.MustCompile(
	`(?i)\b(anew|anybody|everybody|for ever|from the begin|in hand|nobody|passed over|put aside|somebody|stations?|` +
		`the books balance|whoever|wrong deployment|favourites?|behaviour|cancell(ed|ing))\b`)

// asWritten are places where one of them is right.
var asWritten = []string{
	"docs/glossary.md",   // says what not to write
	"docs/decisions",     // is of its time
	"docs/benchmarks.md", // is generated, of what was measured then
	"CHANGELOG.md",
	"internal/testenv", // knows a user of Unix by that name
}

// The texts that people read have one word for one thing: the documents, the strings of the programs, and comments.
func TestWords(t *testing.T) {
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && name != "." || name == "bin" || name == "dist" ||
			name == "scripts"):
			return filepath.SkipDir
		case slices.ContainsFunc(asWritten, func(of string) bool { return strings.HasPrefix(name, of) }):
		case strings.HasSuffix(name, ".md"):
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			for i, line := range strings.Split(string(text), "\n") {
				assert.Empty(t, banned.FindAllString(line, -1), "%s:%d: see docs/glossary.md", name, i+1)
			}
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			files := token.NewFileSet()
			parsed, err := parser.ParseFile(files, path, nil, parser.ParseComments)
			require.NoError(t, err)
			ast.Inspect(parsed, func(n ast.Node) bool {
				if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
					assert.Empty(t, banned.FindAllString(text.Value, -1), "%s: see docs/glossary.md", files.Position(text.Pos()))
				}
				return true
			})
			for _, text := range parsed.Comments {
				found := banned.FindAllString(strings.Join(strings.Fields(text.Text()), " "), -1)
				assert.Empty(t, found, "%s: see docs/glossary.md", files.Position(text.Pos()))
			}
		}
		return nil
	}))
}
