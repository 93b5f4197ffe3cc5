package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"aggregator/internal/deadletter"
	"aggregator/internal/terminal"
)

func newDeadList(a *app) *cobra.Command {
	var settled bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, by source and position",
		Long: `Lists the dead letters that are not settled, of each source in the order of its positions, with
the beginning of what was pushed. It changes nothing. With -o wide, and in the JSON form, all of
it is there: there as text if it is valid UTF-8, and always as base64.`,
		Example: `  aggregator dead list
  aggregator dead list --reason unknown_profile,unknown_book --newer-than 10m
  aggregator dead list --profile 10008 --all --limit 0 -o json`,
	}
	flags := a.addLetterFlags(cmd, 50)
	cmd.Flags().BoolVar(&settled, "all", false, "also those that are settled: applied or dropped")
	out := addTableOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		filter, err := flags.filter(cmd)
		if err != nil {
			return err
		}
		filter.Settled, filter.ByPosition = settled, true
		pool, err := a.OpenPostgres(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer pool.Close()
		if out.json() {
			letters := deadletter.Limited(deadletter.Pages(cmd.Context(), pool, filter, letterPage), flags.limit)
			return writeLetters(a.stdout, letters)
		}
		total, err := deadletter.Count(cmd.Context(), pool, filter)
		if err != nil {
			return err
		}
		if total == 0 {
			_, err := fmt.Fprintln(a.stdout, "no dead letters")
			return err
		}
		letters := deadletter.Limited(deadletter.Pages(cmd.Context(), pool, filter, letterPage), flags.limit)
		return printLetters(a.stdout, a.terminal(), out.wide(), letters, total, settled)
	})
	return cmd
}

// letterPage is how many dead letters are read at a time.
const letterPage = 100

// printLetters prints a table. Its columns line up within a page.
func printLetters(out io.Writer, to terminal.Terminal, wide bool, pages iter.Seq2[[]deadletter.Letter, error],
	total int64, settled bool,
) error {
	shown := int64(0)
	for page, err := range pages {
		if err != nil {
			return err
		}
		table := letterTable(page, wide, settled)
		table.Bare = shown > 0
		if err := table.Write(out, to); err != nil {
			return err
		}
		shown += int64(len(page))
	}
	if shown < total {
		_, err := fmt.Fprintf(out, "%s of %s; see more with --limit\n", grouped(shown), letterCount(total))
		return err
	}
	return nil
}

func letterTable(page []deadletter.Letter, wide, settled bool) *terminal.Table {
	table := &terminal.Table{Wide: wide, Columns: []terminal.Column{
		{Name: "SOURCE", Least: 10, Tail: true},
		{Name: "POSITION"},
		{Name: "REASON"},
		{Name: "PROFILE", Right: true, Drop: 3},
		{Name: "BOOK", Right: true, Drop: 2},
		{Name: "WRITTEN AT", Drop: 1},
		{Name: "RETRIES", Right: true, Drop: 4},
		{Name: "SETTLED"},
		{Name: "PAYLOAD", Least: 12},
		{Name: "LAST ERROR", Wide: true},
	}}
	for _, l := range page {
		failed := "-"
		if l.LastError != nil {
			failed = *l.LastError
		}
		most := 40
		if wide {
			most = len(l.Payload.Bytes)
		}
		table.Add(l.Source, l.Position.String(), string(l.Reason), idOrDash(l.ProfileID), idOrDash(l.BookID),
			l.Created.UTC().Format(time.RFC3339), strconv.Itoa(l.Attempts), orDash(l.SettledAs),
			beginning(l.Payload.Bytes, most), failed)
	}
	if !settled { // then no dead letter is settled
		for i, row := range table.Rows {
			table.Rows[i] = slices.Delete(row, 7, 8)
		}
		table.Columns = slices.Delete(table.Columns, 7, 8)
	}
	return table
}

// beginning is the first bytes in printable form, and how many more there are.
func beginning(b []byte, most int) string {
	if len(b) <= most {
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%q and %s more", b[:most], byteCount(len(b)-most))
}

func byteCount(n int) string { return terminal.Count(int64(n), "byte") }

func idOrDash(id *int64) string {
	if id == nil {
		return "-"
	}
	return strconv.FormatInt(*id, 10)
}

// letterDocument is the JSON form of a dead letter.
type letterDocument struct {
	Source      string     `json:"source"`
	Position    string     `json:"position"`
	Pushed      time.Time  `json:"pushed_at"`
	Reason      string     `json:"reason"`
	Detail      string     `json:"detail"`
	SQLState    *string    `json:"sqlstate"`
	ProfileID   *int64     `json:"child_profile_id"`
	BookID      *int64     `json:"book_id"`
	Created     time.Time  `json:"created_at"`
	Attempts    int        `json:"attempts"`
	LastAttempt *time.Time `json:"last_attempt_at"`
	LastError   *string    `json:"last_error"`
	Settled     *time.Time `json:"settled_at"`
	SettledAs   *string    `json:"settled_as"`
	Form        string     `json:"payload_form"`
	Payload     *string    `json:"payload"` // null if it is not valid UTF-8
	Base64      string     `json:"payload_base64"`
}

func newLetterDocument(l deadletter.Letter) letterDocument {
	d := letterDocument{
		Source: l.Source, Position: l.Position.String(), Pushed: l.Position.Time(), Reason: string(l.Reason),
		Detail:   l.Detail,
		SQLState: l.SQLState, ProfileID: l.ProfileID, BookID: l.BookID, Created: l.Created.UTC(), Attempts: l.Attempts,
		LastAttempt: inUTC(l.LastAttempt), LastError: l.LastError, Settled: inUTC(l.Settled),
		Form: string(l.Payload.Form), Base64: base64.StdEncoding.EncodeToString(l.Payload.Bytes),
	}
	if l.SettledAs != "" {
		d.SettledAs = &l.SettledAs
	}
	if utf8.Valid(l.Payload.Bytes) {
		text := string(l.Payload.Bytes)
		d.Payload = &text
	}
	return d
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// writeLetters writes one document, dead letter by dead letter: all of them may not fit into memory.
func writeLetters(w io.Writer, pages iter.Seq2[[]deadletter.Letter, error]) error {
	between := "{\n  \"dead_letters\": ["
	some := false
	for page, err := range pages {
		if err != nil {
			return err
		}
		for _, l := range page {
			text, err := json.MarshalIndent(newLetterDocument(l), "    ", "  ")
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "%s\n    %s", between, text); err != nil {
				return err
			}
			between, some = ",", true
		}
	}
	if !some {
		_, err := fmt.Fprintf(w, "%s]\n}\n", between)
		return err
	}
	_, err := fmt.Fprint(w, "\n  ]\n}\n")
	return err
}
