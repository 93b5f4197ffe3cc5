package postgres

import (
	"bytes"
	"io/fs"
	"regexp"

	"aggregator/internal/appschema"
)

// migrationFiles are the migrations as they are for the application's tables as they are: without those
// statements that would make a table that is there, and with its own names where a view does not do.
type migrationFiles struct{ tables appschema.Description }

// Open is fs.FS.
func (f migrationFiles) Open(name string) (fs.File, error) {
	file, err := embedded.Open("migrations/" + name)
	if err != nil || name == "." {
		return file, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	text, err := embedded.ReadFile("migrations/" + name)
	if err != nil {
		return nil, err
	}
	return renderedFile{bytes.NewReader([]byte(render(string(text), f.tables))), info}, nil
}

// ReadDir is fs.ReadDirFS.
func (f migrationFiles) ReadDir(string) ([]fs.DirEntry, error) { return embedded.ReadDir("migrations") }

type renderedFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (f renderedFile) Stat() (fs.FileInfo, error) { return f.info, nil }

func (f renderedFile) Close() error { return nil }

var (
	createTable   = regexp.MustCompile(`(?ms)^CREATE TABLE IF NOT EXISTS (\w+) \(.*?^\)[^;]*;\n+`)
	createTrigger = regexp.MustCompile(`(?m)^(CREATE TRIGGER aggregator_changed AFTER .*ON )(\w+)$`)
	refersTo      = regexp.MustCompile(`REFERENCES (\w+) \((\w+)\)`)
	updateOf      = regexp.MustCompile(`UPDATE OF (\w+)`)
)

// render is the text of a migration for the tables as they are.
func render(text string, d appschema.Description) string {
	text = createTable.ReplaceAllStringFunc(text, func(statement string) string {
		if _, found := d.Tables[createTable.FindStringSubmatch(statement)[1]]; found {
			return ""
		}
		return refersTo.ReplaceAllStringFunc(statement, func(reference string) string {
			of := refersTo.FindStringSubmatch(reference)
			t, found := d.Tables[of[1]]
			if !found || !renamed(t, of[1], of[2]) {
				return reference
			}
			return "REFERENCES " + t.SQL() + " (" + t.Own(of[2]) + ")"
		})
	})
	return createTrigger.ReplaceAllStringFunc(text, func(statement string) string {
		parts := createTrigger.FindStringSubmatch(statement)
		t, found := d.Tables[parts[2]]
		if !found || !renamed(t, parts[2], "genre_id") {
			return statement
		}
		return updateOf.ReplaceAllStringFunc(parts[1], func(of string) string {
			return "UPDATE OF " + t.Own(updateOf.FindStringSubmatch(of)[1])
		}) + t.SQL()
	})
}

// renamed says whether a table or a column of it has another name than ours.
func renamed(t appschema.Table, table, column string) bool {
	c, found := t.Column(column)
	return t.Name != table || found && c.Name != column
}
