package config_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// promtool comes with Prometheus, which scripts/provision installs.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput()
	require.NoError(t, err, "%s", said)
}

func TestRules(t *testing.T) {
	promtool(t, "check", "rules", "prometheus/aggregator.rules.yml")
	promtool(t, "test", "rules", "prometheus/aggregator.rules_test.yml")
}

// Each alert has a section in the runbooks, which it names, and a test in which it fires.
func TestAlertsHaveRunbooks(t *testing.T) {
	text, err := os.ReadFile("prometheus/aggregator.rules.yml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Labels      struct{ Severity string }
				Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	runbooks, err := os.ReadFile("../docs/runbooks.md")
	require.NoError(t, err)
	tests, err := os.ReadFile("prometheus/aggregator.rules_test.yml")
	require.NoError(t, err)

	var alerts []string
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			alerts = append(alerts, rule.Alert)
			require.Contains(t, []string{"warning", "critical"}, rule.Labels.Severity, rule.Alert)
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.Equal(t, "docs/runbooks.md#"+strings.ToLower(rule.Alert), rule.Annotations["runbook_url"])
			require.Regexp(t, `alertname: `+rule.Alert+`\n +eval_time: \w+\n +exp_alerts:\n`, string(tests))
		}
	}
	var sections []string
	for _, found := range regexp.MustCompile(`(?m)^## (Aggregator\w+)$`).FindAllStringSubmatch(string(runbooks), -1) {
		sections = append(sections, found[1])
	}
	require.Equal(t, alerts, sections, "in the order of the rules")
}
