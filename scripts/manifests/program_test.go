package manifests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// program builds the aggregator, and returns how to run it in an environment: what it printed, and
// whether it succeeded.
func program(t *testing.T) func(env, args []string) (string, error) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "aggregator")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/aggregator")
	build.Dir = "../.."
	said, err := build.CombinedOutput()
	require.NoError(t, err, "%s", said)
	return func(env, args []string) (string, error) {
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Env, cmd.Dir = env, t.TempDir()
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
}

// The commands and flags of the pods exist, and their settings are valid: the variables, the file in the
// ConfigMap and the Secrets, as the pods have them.
func TestPodsAreUnderstood(t *testing.T) {
	run := program(t)
	plain := files(t)
	for component, pod := range pods(t, built(t)) {
		container := pod.Spec.Containers[0]
		said, err := run(nil, append(container.Args, "--help"))
		require.NoError(t, err, "%s: %s", component, said)
		require.Contains(t, said, "aggregator "+container.Args[0], component)

		mounted := mount(t, plain, pod.Spec)
		env := []string{"AGGREGATOR_CONFIG=" + mounted("/etc/aggregator/aggregator.yaml")}
		for _, variable := range container.Env {
			if strings.HasSuffix(variable.Name, "_FILE") {
				variable.Value = mounted(variable.Value)
			}
			env = append(env, variable.Name+"="+variable.Value)
		}
		said, err = run(env, []string{"config", "check"})
		require.NoError(t, err, "%s: %s", component, said)
		said, err = run(env, []string{"config", "print", "--show-origin"})
		require.NoError(t, err, "%s: %s", component, said)
		require.Regexp(t, `on_halt: +stay .*aggregator.yaml:\d`, said)
		require.Regexp(t, `addr: +["']?:9464["']? .*aggregator.yaml:\d`, said, "the port of the probes")
		require.Contains(t, said, "@postgres:5432/app", component)
		if component != "migrate" {
			require.Contains(t, said, "@redis:6379/0", component)
		}
		_, err = run(append(env, "AGGREGATOR_RUN_ON_HALTS=stay"), []string{"config", "check"})
		require.Error(t, err, "a variable that is no setting")
	}
}

// mount writes the volumes of a pod to a folder, and returns where a path of the container is there.
func mount(t *testing.T, plain map[string][]any, pod core.PodSpec) func(path string) string {
	t.Helper()
	root := t.TempDir()
	for _, at := range pod.Containers[0].VolumeMounts {
		var content map[string]string
		for _, volume := range pod.Volumes {
			if volume.Name != at.Name {
				continue
			}
			for _, object := range append(plain["ConfigMap"], plain["Secret"]...) {
				switch object := object.(type) {
				case *core.ConfigMap:
					if volume.ConfigMap != nil && volume.ConfigMap.Name == object.Name {
						content = object.Data
					}
				case *core.Secret:
					if volume.Secret != nil && volume.Secret.SecretName == object.Name {
						content = object.StringData
					}
				}
			}
		}
		require.NotEmpty(t, content, at.Name)
		require.NoError(t, os.MkdirAll(filepath.Join(root, at.MountPath), 0o700))
		for name, text := range content {
			require.NoError(t, os.WriteFile(filepath.Join(root, at.MountPath, name), []byte(text), 0o600))
		}
	}
	return func(path string) string { return filepath.Join(root, path) }
}

// The commands and variables of the compose file exist. make image-test runs it.
func TestComposeIsUnderstood(t *testing.T) {
	text, err := os.ReadFile("../../config/docker/compose.yaml")
	require.NoError(t, err)
	var file struct {
		Services map[string]struct {
			Image       string
			Command     []string
			Environment map[string]string
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	run := program(t)
	found := 0
	for name, service := range file.Services {
		if !strings.Contains(service.Image, "localhost/aggregator") {
			continue
		}
		found++
		if len(service.Command) == 0 {
			service.Command = []string{"run"} // as the Dockerfile has it
		}
		said, err := run(nil, append(service.Command, "--help"))
		require.NoError(t, err, "%s: %s", name, said)
		var env []string
		for key, value := range service.Environment {
			env = append(env, key+"="+value)
		}
		said, err = run(env, []string{"config", "check"})
		require.NoError(t, err, "%s: %s", name, said)
	}
	require.Equal(t, 2, found)
}
