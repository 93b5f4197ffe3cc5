package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// watcher is a Prometheus with our rules, which here wait for no longer than a second.
type watcher struct {
	t *testing.T
	*testenv.Prometheus
}

// watch has it scrape the service and, as node_exporter would show it, the file of a drain.
func watch(t *testing.T, service *process, textfile string) *watcher {
	t.Helper()
	rules, err := os.ReadFile("../../config/prometheus/aggregator.rules.yml")
	require.NoError(t, err)
	impatient := regexp.MustCompile(`(?m)^( +for): \S+$`).ReplaceAllString(string(rules), "$1: 1s")
	node := httptest.NewServer(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, textfile) }))
	t.Cleanup(node.Close)
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [aggregator.rules.yml]
scrape_configs:
  - {job_name: aggregator, static_configs: [{targets: [%q]}]}
  - {job_name: node, static_configs: [{targets: [%q]}]}
`, strings.TrimPrefix(service.url, "http://"), strings.TrimPrefix(node.URL, "http://"))
	return &watcher{t, testenv.NewPrometheus(t, config, map[string]string{"aggregator.rules.yml": impatient})}
}

// ask asks its API; into takes the data of the answer.
func (w *watcher) ask(path string, into any) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.URL()+path, nil)
	require.NoError(w.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(w.t, err)
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	require.NoError(w.t, json.NewDecoder(response.Body).Decode(&answer))
	require.Equal(w.t, "success", answer.Status, "%s: %s", path, answer.Error)
	require.NoError(w.t, json.Unmarshal(answer.Data, into))
}

// wrong is what the panel "What is wrong" says. Here an event that waits is old at once.
func (w *watcher) wrong() (lines []string) {
	w.t.Helper()
	impatient := strings.NewReplacer("$instance", ".*", "$source", ".*", "> 300", "> 0")
	for _, target := range testenv.DashboardPanel(w.t, "What is wrong") {
		var data struct {
			Result []struct{ Metric map[string]string }
		}
		w.ask("/api/v1/query?query="+url.QueryEscape(impatient.Replace(target.Expr)), &data)
		for _, series := range data.Result {
			line := target.LegendFormat
			for label, value := range series.Metric {
				line = strings.ReplaceAll(line, "{{"+label+"}}", value)
			}
			lines = append(lines, line)
		}
		slices.Sort(lines[len(lines)-len(data.Result):])
	}
	return lines
}

// found is how many series a query finds.
func (w *watcher) found(query string) int {
	w.t.Helper()
	var data struct{ Result []json.RawMessage }
	w.ask("/api/v1/query?query="+url.QueryEscape(query), &data)
	return len(data.Result)
}

func (w *watcher) firing() (alerts []string) {
	w.t.Helper()
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	w.ask("/api/v1/alerts", &data)
	for _, alert := range data.Alerts {
		if alert.State == "firing" {
			alerts = append(alerts, alert.Labels["alertname"])
		}
	}
	return alerts
}

func (w *watcher) eventually(condition func() bool) {
	w.t.Helper()
	require.Eventually(w.t, condition, patience, 100*time.Millisecond)
}

// eventuallyFire waits until exactly these alerts fire.
func (w *watcher) eventuallyFire(alerts ...string) {
	w.t.Helper()
	w.eventually(func() bool { return slices.Equal(alerts, w.firing()) })
}

func TestPrometheus(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	textfile := filepath.Join(t.TempDir(), "aggregator.prom")
	s.push("1:1:LIKE")
	require.Zero(t, s.program("drain", "--metrics-textfile", textfile).code)
	hour := (time.Now().UTC().Hour() + 12) % 24
	refreshFails := func() {
		s.exec(`UPDATE book SET title = title || 'b'`)
		s.exec(`REVOKE UPDATE (search_text) ON book FROM aggregator_daemon`)
		s.program("search-text").requireFailure(t, exitFailed, "permission denied for table book")
		s.exec(`GRANT UPDATE (search_text) ON book TO aggregator_daemon`)
	}
	refreshFails()
	s.program("search-text").requireDone(t)
	service := s.start("--schedule-search-text", fmt.Sprintf("30 %d * * *", hour))
	w := watch(t, service, textfile)

	// All is well, and each panel of the dashboard has something to show.
	s.push("1:1:LIKE", "1:1:LIKE")
	w.eventually(func() bool {
		return w.found(`aggregator_events_total{result="applied"} == 2`) == 1 && w.found(`aggregator_drain_events`) > 0 &&
			w.found(`aggregator_ledger_difference_events`) > 0 && w.found(`rate(process_cpu_seconds_total[10s])`) > 0
	})
	w.eventuallyFire()
	troubles := testenv.DashboardPanel(t, "What is wrong")
	fill := strings.NewReplacer("$instance", ".*", "$source", ".*", "$__rate_interval", "10s")
	for _, query := range testenv.DashboardQueries(t) {
		query = fill.Replace(query)
		// There is nothing of what never happened.
		never := slices.ContainsFunc(troubles, func(trouble testenv.DashboardTarget) bool {
			return fill.Replace(trouble.Expr) == query
		}) || strings.Contains(query, "by (reason)") || strings.Contains(query, `state!="working"`)
		assert.True(t, never || w.found(query) > 0, query)
	}

	refreshFails()
	w.eventuallyFire("AggregatorJobFailed")
	s.program("search-text").requireDone(t)
	w.eventuallyFire()

	s.push("junk")
	w.eventuallyFire("AggregatorDeadLetters")

	require.NoError(t, service.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, service.cmd.Wait())
	w.eventually(func() bool { return slices.Contains(w.firing(), "AggregatorDown") })
}

// The panel says in words what is wrong, and nothing else.
func TestDashboardSaysWhatIsWrong(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	service := s.start("--run-on-halt", "stay")
	w := watch(t, service, filepath.Join(t.TempDir(), "none"))
	where, reason := strings.TrimPrefix(service.url, "http://"), regexp.MustCompile(` postgres_\w+:`)
	says := func(want ...string) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			lines := w.wrong()
			for i, line := range lines {
				lines[i] = reason.ReplaceAllString(line, " a reason:")
			}
			assert.Equal(c, want, lines)
		}, 3*patience, 100*time.Millisecond)
	}
	s.push("1:1:LIKE")
	w.eventually(func() bool { return w.found(`aggregator_events_total{result="applied"} == 1`) == 1 })
	w.eventually(func() bool { return w.found(`aggregator_ledger_vanished_events`) == 1 })
	says()

	// While PostgreSQL has no connection for it, an entry vanishes and another one waits.
	name := s.db.Config().Database
	allow := func(connections int) { // of roles that are not superusers
		s.exec(fmt.Sprintf(`ALTER DATABASE %q CONNECTION LIMIT %d`, name, connections))
	}
	allow(0)
	s.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> current_user
		AND datname = current_database()`)
	ids := s.push("1:1:LIKE", "1:1:LIKE")
	require.NoError(t, s.redis.XDel(t.Context(), "book-like-events", ids[0]).Err())
	says("book-like-events is backing off on "+where+", a reason: failed attempts of 5 minutes",
		"postgres does not answer "+where, "the oldest event of book-like-events waits: for seconds")
	allow(-1)
	const vanished = "entries of book-like-events were removed from Redis unread or, below zero, forgotten by it"
	const incident = "an incident of book-like-events is open: entries_removed"
	says(vanished, incident)

	s.exec(`UPDATE aggregator.mark SET applied = applied + 1`)
	s.exec(`UPDATE book SET title = title || 'b'; REVOKE UPDATE (search_text) ON book FROM aggregator_daemon`)
	s.program("search-text").requireFailure(t, exitFailed, "permission denied for table book")
	s.push("junk")
	const counted = "events of book-like-events were counted twice or, below zero, lost"
	const job = "the last search_text failed: seconds ago"
	const mismatch = "an incident of book-like-events is open: count_mismatch"
	const dead = "new dead letters in an hour, malformed"
	says(dead, job, counted, vanished, mismatch, incident)

	// What is only known from PostgreSQL is left out once its schema is not understood.
	s.exec(newer)
	s.push("1:1:LIKE")
	says("book-like-events has halted on "+where+": aggregator status says why",
		"the oldest event of book-like-events waits: for seconds")

	require.NoError(t, service.cmd.Process.Kill())
	_ = service.cmd.Wait()
	w.eventually(func() bool {
		return slices.Contains(w.wrong(), where+" does not answer: it is down, has halted, or cannot be reached")
	})
}
