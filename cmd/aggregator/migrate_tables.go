package main

import (
	"fmt"
	"strings"

	"aggregator/internal/appschema"
	"aggregator/internal/terminal"
)

// tableState is one table of the application in the status. Its names are those of the JSON form.
type tableState struct {
	Table    string         `json:"table"`
	Found    string         `json:"found"` // as what: table, view, ...; empty: it is not there
	Rows     *int64         `json:"rows"`  // by the statistics; null: not known
	Findings []tableFinding `json:"findings"`
}

type tableFinding struct {
	Column   string `json:"column"` // empty: the table
	Severity string `json:"severity"`
	Found    string `json:"found"`
	Advice   string `json:"advice"`
}

var severities = map[appschema.Severity]string{
	appschema.Adapted: "adapted", appschema.Warning: "warning", appschema.Problem: "problem", appschema.Refused: "refused",
}

func newTableStates(d appschema.Description) (all []tableState) {
	findings := map[string][]tableFinding{}
	for _, f := range d.Findings() {
		findings[f.Table] = append(findings[f.Table], tableFinding{f.Column, severities[f.Severity], f.String(), f.Advice})
	}
	for _, name := range d.Needed() {
		s := tableState{Table: name, Findings: []tableFinding{}}
		if t, found := d.Tables[name]; found {
			s.Found = string(t.Kind)
			if t.Rows >= 0 {
				s.Rows = &t.Rows
			}
		}
		s.Findings = append(s.Findings, findings[name]...)
		all = append(all, s)
	}
	return all
}

// others are the tables of the application's names in other schemas.
func others(d appschema.Description) (names []string) {
	for _, e := range d.Elsewhere {
		names = append(names, e.Schema+"."+e.Table)
	}
	return names
}

func (a *app) listTables(schema string, others []string, states []tableState, wide bool) error {
	table := &terminal.Table{Wide: wide, Columns: []terminal.Column{
		{Name: "TABLE IN SCHEMA " + schema, Least: 18},
		{Name: "FOUND"},
		{Name: "ROWS", Drop: 1},
		{Name: "WHAT FOLLOWS", Least: 30, Flow: true},
	}}
	for _, s := range states {
		found, rows, follows := s.Found, "-", "as needed"
		if s.Rows != nil {
			rows = "some " + grouped(*s.Rows)
		}
		if s.Found == "" {
			found, follows = "-", "migrate up creates it, if it is pending"
		}
		if len(s.Findings) > 0 {
			follows = s.Findings[0].line()
		}
		table.Add(s.Table, found, rows, follows)
		for _, f := range s.Findings[min(1, len(s.Findings)):] {
			table.Add("", "", "", f.line())
		}
	}
	if _, err := fmt.Fprintln(a.stdout); err != nil {
		return err
	}
	if err := table.Write(a.stdout, a.terminal()); err != nil || len(others) == 0 {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "not used are tables of the same names in other schemas: %s\n",
		strings.Join(others, ", "))
	return err
}

func (f tableFinding) line() string {
	return fmt.Sprintf("%s: %s -> %s", f.Severity, f.Found, f.Advice)
}
