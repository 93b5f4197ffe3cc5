package admin

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/testenv"
)

var update = flag.Bool("update", false, "write the tables of docs/metrics.md")

func (b *bundle) scrape(t *testing.T) string {
	t.Helper()
	b.survey.at = time.Time{}
	code, body := b.get(t, "/metrics")
	require.Equal(t, 200, code)
	return body
}

// busy makes everything happen of which there is a metric.
func (b *bundle) busy(t *testing.T) {
	t.Helper()
	require.NoError(t, b.client.XAdd(
		t.Context(), &redis.XAddArgs{Stream: "likes:{0}", Values: []any{"event", "1:1:LIKE"}}).Err())
	_, err := b.database.Exec(
		t.Context(),
		`INSERT INTO aggregator.dead_letter (source, position_ms, position_seq, reason, payload, payload_form, settled_at,
			settled_as)
		VALUES ('x', 1, 1, 'malformed', '', 'event', NULL, NULL), ('x', 1, 2, 'malformed', '', 'event', now(), 'dropped')`)
	require.NoError(t, err)
	_, err = b.database.Exec(
		t.Context(),
		`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome, read, applied, dead,
			profiles, chunks)
		SELECT gen_random_uuid()::text, kind, 'h', 'v', ended, ended, ended, outcome, 0, 0, 0, 0, 0
		FROM unnest('{purge,purge,purge,drain,service}'::text[], '{done,limited,failed,stopped,failed}'::text[],
			'{1,2,3,4,5}'::int[]) r(kind, outcome, second),
			to_timestamp(second) ended`)
	require.NoError(t, err)
	b.books.audit(t.Context(), b.Server)
	now := time.Now()
	b.Meter.Observe(aggregator.Chunk{
		Entries: 1000, Profiles: 30, At: now,
		Took: aggregator.Stages{
			Read: time.Millisecond, LookUp: time.Millisecond, Apply: 2 * time.Second, Checkpoint: time.Millisecond,
			Trim: time.Millisecond,
		},
		Samples: []aggregator.Sample{
			{Pushed: now.Add(-2 * time.Second), Events: 900}, {Pushed: now.Add(time.Second), Events: 99},
		},
	})
}

func TestMetrics(t *testing.T) {
	b := setup(t)
	b.busy(t)
	body := b.scrape(t)
	for _, want := range []string{
		`aggregator_build_info{goversion="go`,
		`aggregator_config_last_reload_successful 1`,
		`aggregator_events_total{result="applied",source="likes:{0}"} 3`,
		`aggregator_retries_total{reason="timeout",source="likes:{1}"} 2`,
		`aggregator_dead_letters_retried_total 4`,
		`aggregator_source_state{source="likes:{0}",state="working"} 1`,
		`aggregator_source_state{source="likes:{0}",state="halted"} 0`,
		`aggregator_lease_moves_total{reason="free"} 5`, `aggregator_held_sources 2`, `aggregator_target_sources 3`,
		`aggregator_members 4`,
		`aggregator_source_unowned_seconds_bucket{le="0.025"} 2`, `aggregator_source_unowned_seconds_count 3`,
		`aggregator_dependency_up{dependency="postgres"} 1`,
		`aggregator_queue_lag_events{source="likes:{0}"} 1`,
		`aggregator_queue_lag_events{source="likes:{1}"} 0`,
		`aggregator_queue_oldest_event_age_seconds{source="likes:{1}"} 0`,
		`aggregator_dead_letters{reason="malformed"} 1`,
		`aggregator_job_due_timestamp_seconds{kind="purge"} 1.8e+09`,
		`aggregator_job_last_success_timestamp_seconds{kind="purge"} 2`,
		`aggregator_job_last_failure_timestamp_seconds{kind="purge"} 3`,
		`aggregator_ledger_difference_events{source="likes:{0}"} 0`,
		`aggregator_ledger_vanished_events{source="likes:{0}"} 0`,
		`aggregator_cache_requests_total{cache="books",result="miss"} 3`,
		`aggregator_cache_max_entries{cache="books"} 10`,
		`aggregator_chunk_size_events_bucket{le="1000"} 1`, `aggregator_chunk_profiles_sum 30`,
		`aggregator_stage_duration_seconds_bucket{stage="apply",le="1"} 0`,
		`aggregator_stage_duration_seconds_bucket{stage="apply",le="2.5"} 1`,
		`aggregator_event_delay_seconds_bucket{le="0.005"} 99`, // a clock that is ahead is no delay
		`aggregator_event_delay_seconds_bucket{le="1"} 99`, `aggregator_event_delay_seconds_bucket{le="2.5"} 999`,
		`aggregator_event_delay_seconds_sum 1800`, `aggregator_event_delay_seconds_count 999`,
		`aggregator_pgxpool_connections{state="idle"} `, `aggregator_pgxpool_max_connections 2`,
		`aggregator_redis_pool_connections{state="idle"} `, `aggregator_redis_pool_requests_total{result="miss"} `,
		"go_goroutines ", "process_cpu_seconds_total ", "go_build_info{",
	} {
		assert.Contains(t, body, "\n"+want)
	}
	assert.NotContains(t, body, `kind="drain"`, "one that never ended has no time")
	assert.NotContains(t, body, `kind="service"`, "a session is no job")
	assert.NotContains(t, body, `ledger_difference_events{source="likes:{1}"}`, "without a checkpoint there are no books")

	require.NoError(t, b.server.Kill())
	body = b.scrape(t)
	assert.Contains(t, body, `aggregator_dependency_up{dependency="redis"} 0`)
	assert.Contains(t, body, `aggregator_dependency_up{dependency="postgres"} 1`)
	assert.NotContains(t, body, "aggregator_queue_lag_events{", "what is not known is not shown")
	assert.NotContains(t, body, "aggregator_queue_oldest_event_age_seconds{")
}

// families are all metrics of ours, by name: those of the service, and those that a drain
// leaves in its file.
func (b *bundle) families(t *testing.T) (service, drain map[string]*dto.MetricFamily) {
	t.Helper()
	b.busy(t)
	ours := func(g prometheus.Gatherer) map[string]*dto.MetricFamily {
		problems, err := testutil.GatherAndLint(g)
		require.NoError(t, err)
		assert.Empty(t, problems)
		all, err := g.Gather()
		require.NoError(t, err)
		byName := make(map[string]*dto.MetricFamily)
		for _, family := range all {
			byName[family.GetName()] = family
		}
		return byName
	}
	left := int64(1)
	return ours(b.registry()), ours(Drained{At: time.Now(), Left: &left}.registry())
}

func isOurs(name string) bool { return strings.HasPrefix(name, "aggregator_") }

// Of every metric there is a sample in this test, and labels have a bounded set of values.
func TestMetricsAreAllThere(t *testing.T) {
	b := setup(t)
	service, drain := b.families(t)
	described := make(chan *prometheus.Desc, 1000)
	for _, c := range []prometheus.Collector{
		collector{b.Server}, pools{b.LoopPool, b.LoopRedis}, b.Meter, Drained{Left: new(int64)},
	} {
		c.Describe(described)
	}
	close(described)
	names := make(map[string]bool)
	for d := range described {
		name := regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1]
		names[name] = true
		assert.True(t, service[name] != nil || drain[name] != nil, name)
	}
	assert.Greater(t, len(names), 30)

	bounded := []string{
		"source", "kind", "result", "reason", "state", "stage", "cache", "dependency", "version",
		"goversion",
	}
	for _, family := range []map[string]*dto.MetricFamily{service, drain} {
		for name, f := range family {
			if isOurs(name) {
				assert.Subset(t, bounded, labelsOf(f), name)
			}
		}
	}
}

func labelsOf(f *dto.MetricFamily) []string {
	names := make(map[string]bool)
	for _, metric := range f.GetMetric() {
		for _, label := range metric.GetLabel() {
			names[label.GetName()] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// The tables of docs/metrics.md are those of the registries.
func TestMetricsAreDocumented(t *testing.T) {
	service, drain := setup(t).families(t)
	const path = "../../docs/metrics.md"
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	want := string(file)
	for name, families := range map[string]map[string]*dto.MetricFamily{"service": service, "drain": drain} {
		begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
		before, rest, found := strings.Cut(want, begin)
		require.True(t, found)
		_, after, found := strings.Cut(rest, end)
		require.True(t, found)
		want = before + begin + table(families) + end + after
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(file), "run: go test ./internal/admin -update")
}

func table(families map[string]*dto.MetricFamily) string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | what it says |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if isOurs(name) {
			f := families[name]
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()),
				strings.Join(labelsOf(f), ", "), f.GetHelp())
		}
	}
	return b.String()
}

// What the dashboard and the rules ask for is there.
func TestQueriesNameMetrics(t *testing.T) {
	service, drain := setup(t).families(t)
	for name, queries := range map[string][]string{
		"dashboard": testenv.DashboardQueries(t), "rules": ruleQueries(t),
	} {
		require.NotEmpty(t, queries, name)
		for _, query := range queries {
			for _, metric := range regexp.MustCompile(`\b(aggregator|go|process)_\w+`).FindAllString(query, -1) {
				found := service[metric] != nil || drain[metric] != nil
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					base, cut := strings.CutSuffix(metric, suffix)
					found = found || cut && service[base].GetType() == dto.MetricType_HISTOGRAM
				}
				assert.True(t, found, "%s: %s in %s", name, metric, query)
			}
		}
	}
}

func ruleQueries(t *testing.T) (queries []string) {
	t.Helper()
	text, err := os.ReadFile("../../config/prometheus/aggregator.rules.yml")
	require.NoError(t, err)
	return []string{string(text)} // no name of a metric is in it that is not meant
}

func TestDrainedTextfile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "aggregator.prom")
	require.NoError(t, os.WriteFile(name, []byte("of before\n"), 0o600))
	drained := Drained{At: time.UnixMilli(1500), Took: time.Second, ExitCode: 69}
	require.NoError(t, drained.WriteTextfile(name))
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Contains(t, string(text), "\naggregator_drain_timestamp_seconds 1.5\n")
	assert.Contains(t, string(text), "\naggregator_drain_exit_code 69\n")
	assert.NotContains(t, string(text), "left_events")
	assert.NotContains(t, string(text), "of before")
	info, err := os.Stat(name)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o644), info.Mode(), "the exporter is another user")
	require.Error(t, drained.WriteTextfile(filepath.Join(name, "x.prom")))
}

func TestPprofIsForThisMachine(t *testing.T) {
	b := setup(t)
	code, _ := b.get(t, "/debug/pprof/")
	assert.Equal(t, 404, code, "nobody asked for it")
	b.Pprof = true
	profiled := New(b.Options)
	for from, want := range map[string]int{"127.0.0.1:1": 200, "[::1]:1": 200, "192.0.2.1:1": 403, "": 403} {
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline"} {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			request.RemoteAddr = from
			w := httptest.NewRecorder()
			profiled.http.Handler.ServeHTTP(w, request)
			assert.Equal(t, want, w.Code, "%s from %s", path, from)
		}
	}
}
