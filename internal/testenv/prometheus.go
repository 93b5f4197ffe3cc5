package testenv

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Prometheus is a server that asks others for their metrics.
type Prometheus struct {
	folder  folder
	port    int
	process *process
}

// DashboardTarget is a query of a panel, and how a series that it finds is called.
type DashboardTarget struct{ Expr, LegendFormat string }

// DashboardQueries are those of config/grafana/aggregator.json, with the variables as they stand there.
func DashboardQueries(t testing.TB) (queries []string) {
	t.Helper()
	for _, targets := range dashboard(t) {
		for _, target := range targets {
			queries = append(queries, target.Expr)
		}
	}
	if len(queries) <= 20 {
		t.Fatalf("%d queries", len(queries))
	}
	return queries
}

// DashboardPanel is what the panels of a title ask for.
func DashboardPanel(t testing.TB, title string) []DashboardTarget {
	t.Helper()
	targets := dashboard(t)[title]
	if len(targets) == 0 {
		t.Fatalf("no panel %q", title)
	}
	return targets
}

func dashboard(t testing.TB) map[string][]DashboardTarget {
	t.Helper()
	text, err := os.ReadFile("../../config/grafana/aggregator.json") // as seen from any package that is two folders down
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []DashboardTarget
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	panels := make(map[string][]DashboardTarget)
	for _, panel := range board.Panels {
		panels[panel.Title] = append(panels[panel.Title], panel.Targets...)
	}
	return panels
}

// NewPrometheus starts one, ended after the test. Its configuration may name the files, which
// are given by name with their content.
func NewPrometheus(t testing.TB, config string, files map[string]string) *Prometheus {
	t.Helper()
	p, err := startPrometheus(t.Context(), config, files)
	if err != nil {
		t.Fatalf("start Prometheus: %v", err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Errorf("close Prometheus: %v", err)
		}
	})
	return p
}

// URL is where it answers.
func (p *Prometheus) URL() string { return "http://" + address(p.port) }

func startPrometheus(ctx context.Context, config string, files map[string]string) (*Prometheus, error) {
	bin, err := exec.LookPath("prometheus")
	if err != nil {
		return nil, errors.New("Prometheus is not installed: run scripts/provision")
	}
	p := &Prometheus{}
	if p.folder, err = newFolder(); err != nil {
		return nil, err
	}
	file, err := p.folder.write("prometheus.yml", []byte(config))
	for name, content := range files {
		if err == nil {
			_, err = p.folder.write(name, []byte(content))
		}
	}
	if err == nil {
		p.port, err = p.folder.reservePort(ctx)
	}
	if err == nil {
		err = p.start(ctx, bin, file)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *Prometheus) start(ctx context.Context, bin, file string) error {
	started, err := startProcess(ctx, p.folder, syscall.SIGKILL, bin, "--config.file="+file,
		"--storage.tsdb.path="+filepath.Join(p.folder.path, "data"), "--web.listen-address="+address(p.port),
		"--log.level=warn")
	if err != nil {
		return err
	}
	err = started.ready(ctx, func(ctx context.Context) bool {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL()+"/-/ready", nil)
		if err != nil {
			return false
		}
		response, err := http.DefaultClient.Do(request)
		return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
	})
	if err != nil {
		return errors.Join(err, started.end(syscall.SIGKILL))
	}
	p.process = started
	return nil
}

func (p *Prometheus) close() error {
	var err error
	if p.process != nil {
		err = p.process.end(syscall.SIGKILL)
	}
	return errors.Join(err, p.folder.remove())
}
