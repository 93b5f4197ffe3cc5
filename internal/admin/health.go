package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"aggregator/internal/aggregator"
	"aggregator/internal/ledger"
)

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	var stuck []string
	for _, status := range s.Loop.Status() {
		if status.Hangs() {
			stuck = append(stuck, fmt.Sprintf("the loop of %s (%s) has not turned for %s\n",
				status.Source.Name(), status.State, time.Since(status.LastTurn).Round(time.Second)))
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(stuck) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, strings.Join(stuck, ""))
		return
	}
	fmt.Fprintln(w, "ok")
}

// readiness is the answer of /readyz. Its names are those of the JSON form.
type readiness struct {
	Ready   bool                   `json:"ready"`
	Checks  map[string]check       `json:"checks"`
	Sources map[string]SourceState `json:"sources"`
}

type check struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

func checked(err error) check {
	switch {
	case err == nil:
		return check{OK: true}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return check{Reason: "no answer within " + patience.String()}
	}
	return check{Reason: err.Error()}
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	survey := s.look(r.Context(), time.Second)
	answer := readiness{
		Checks: map[string]check{
			"redis":    checked(survey.Redis.Err),
			"postgres": checked(survey.Postgres.Err),
			"schema":   checked(survey.Schema.Err),
		},
		Sources: map[string]SourceState{},
		Ready:   true,
	}
	if schema := survey.Schema; schema.Err == nil && schema.Newer() {
		answer.Checks["schema"] = check{OK: true, Reason: schema.String()}
	}
	switch {
	case survey.Incidents != nil:
		answer.Checks["incidents"] = accounted(survey.OpenOf())
	case survey.Postgres.Err == nil && survey.Schema.Err == nil:
		answer.Checks["incidents"] = check{Reason: fmt.Sprintf("unknown: %v", survey.Err)}
	}
	for _, c := range answer.Checks {
		answer.Ready = answer.Ready && c.OK
	}
	for _, status := range s.Loop.Status() {
		// A source that stands by takes over at once: it is as ready as it can be. So is one that is idle
		// until its schedule wants it.
		ok := slices.Contains([]aggregator.State{aggregator.Working, aggregator.StandingBy, aggregator.Resting}, status.State)
		answer.Ready = answer.Ready && ok
		answer.Sources[status.Source.Name()] = SourceState{
			ok, status.State, status.Since.UTC(), status.Reason, status.LastTurn.UTC(),
		}
	}
	code := http.StatusOK
	if !answer.Ready {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, answer)
}

// accounted is the check that no incident of the sources is open.
func accounted(open []ledger.Incident) check {
	var reasons []string
	for _, i := range open {
		reasons = append(reasons, fmt.Sprintf("%s: %s: %s", i.Source, i.Kind, i))
	}
	return check{OK: len(open) == 0, Reason: strings.Join(reasons, "; ")}
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{
		"version": s.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
	})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a client that does not listen any more misses nothing
}
