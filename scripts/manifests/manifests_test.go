package manifests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	security "k8s.io/pod-security-admission/api"
	admission "k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const folder = "../../config/kubernetes"

// types are those of the API, by kind.
var types = map[string]func() any{
	"ServiceAccount":      func() any { return &core.ServiceAccount{} },
	"ConfigMap":           func() any { return &core.ConfigMap{} },
	"Secret":              func() any { return &core.Secret{} },
	"Service":             func() any { return &core.Service{} },
	"Deployment":          func() any { return &apps.Deployment{} },
	"Job":                 func() any { return &batch.Job{} },
	"CronJob":             func() any { return &batch.CronJob{} },
	"PodDisruptionBudget": func() any { return &policy.PodDisruptionBudget{} },
	"NetworkPolicy":       func() any { return &networking.NetworkPolicy{} },
	"ServiceMonitor":      func() any { return &monitoring.ServiceMonitor{} },
}

// groups are where the API has the kinds.
var groups = map[string]string{
	"ServiceAccount": "v1", "ConfigMap": "v1", "Secret": "v1", "Service": "v1",
	"Deployment": "apps/v1", "Job": "batch/v1", "CronJob": "batch/v1", "PodDisruptionBudget": "policy/v1",
	"NetworkPolicy": "networking.k8s.io/v1", "ServiceMonitor": "monitoring.coreos.com/v1",
}

// decode decodes one object, of which no field may be unknown.
func decode(t *testing.T, text []byte) (kind string, object any) {
	t.Helper()
	var meta struct{ APIVersion, Kind string }
	require.NoError(t, yaml.Unmarshal(text, &meta))
	require.Contains(t, types, meta.Kind)
	require.Equal(t, groups[meta.Kind], meta.APIVersion, meta.Kind)
	object = types[meta.Kind]()
	require.NoError(t, yaml.UnmarshalStrict(text, object), meta.Kind)
	return meta.Kind, object
}

// files decodes every object of every file but the kustomization.
func files(t *testing.T) map[string][]any {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	require.NoError(t, err)
	all := make(map[string][]any)
	for _, name := range names {
		if filepath.Base(name) == "kustomization.yaml" {
			continue
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, document := range strings.Split(string(text), "\n---\n") {
			kind, object := decode(t, []byte(document))
			all[kind] = append(all[kind], object)
		}
	}
	return all
}

// built is what the kustomization makes.
func built(t *testing.T) map[string][]any {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	require.NoError(t, err)
	all := make(map[string][]any)
	for _, resource := range resources.Resources() {
		text, err := resource.AsYAML()
		require.NoError(t, err)
		kind, object := decode(t, text)
		all[kind] = append(all[kind], object)
	}
	return all
}

func one[T any](t *testing.T, all map[string][]any) T {
	t.Helper()
	var found []T
	for _, objects := range all {
		for _, object := range objects {
			if object, ok := object.(T); ok {
				found = append(found, object)
			}
		}
	}
	require.Len(t, found, 1)
	return found[0]
}

// pods are the templates of all that runs, by the name of their component.
func pods(t *testing.T, all map[string][]any) map[string]core.PodTemplateSpec {
	t.Helper()
	found := make(map[string]core.PodTemplateSpec)
	for _, template := range []core.PodTemplateSpec{
		one[*apps.Deployment](t, all).Spec.Template, one[*batch.Job](t, all).Spec.Template,
		one[*batch.CronJob](t, all).Spec.JobTemplate.Spec.Template,
	} {
		found[template.Labels["app.kubernetes.io/component"]] = template
	}
	require.Len(t, found, 3)
	return found
}

// The kustomization has each file but the example of a Secret, and every image is replaced.
func TestKustomization(t *testing.T) {
	all, plain := built(t), files(t)
	require.Empty(t, all["Secret"])
	for kind := range plain {
		if kind != "Secret" {
			require.Len(t, all[kind], len(plain[kind]), kind)
		}
	}
	for name, pod := range pods(t, all) {
		require.Contains(t, pod.Spec.Containers[0].Image, "/aggregator:", name)
	}
}

// The pods are let in where the standard "restricted" is enforced.
func TestPodsAreRestricted(t *testing.T) {
	evaluator, err := admission.NewEvaluator(admission.DefaultChecks(), nil)
	require.NoError(t, err)
	restricted := security.LevelVersion{Level: security.LevelRestricted, Version: security.LatestVersion()}
	for name, pod := range pods(t, built(t)) {
		for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
			require.True(t, result.Allowed, "%s: %s %s", name, result.ForbiddenReason, result.ForbiddenDetail)
		}
		require.True(t, *pod.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem)
		require.False(t, *pod.Spec.AutomountServiceAccountToken)
		require.Equal(t, one[*core.ServiceAccount](t, files(t)).Name, pod.Spec.ServiceAccountName)
	}
}

// Selectors find what they are for, and ports are those of the container.
func TestSelectors(t *testing.T) {
	all := built(t)
	deployment := one[*apps.Deployment](t, all)
	require.Greater(t, *deployment.Spec.Replicas, int32(1))
	service, monitor := one[*core.Service](t, all), one[*monitoring.ServiceMonitor](t, all)
	serving := labels.Set(deployment.Spec.Template.Labels)
	for name, selector := range map[string]map[string]string{
		"Deployment":           deployment.Spec.Selector.MatchLabels,
		"Service":              service.Spec.Selector,
		"PodDisruptionBudget":  one[*policy.PodDisruptionBudget](t, all).Spec.Selector.MatchLabels,
		"spread of Deployment": deployment.Spec.Template.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels,
	} {
		require.True(t, labels.SelectorFromSet(selector).Matches(serving), name)
		for component, pod := range pods(t, all) {
			matches := labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels))
			require.Equal(t, component == "service", matches, "%s and the pods of %s", name, component)
		}
	}
	for component, pod := range pods(t, all) {
		inside := one[*networking.NetworkPolicy](t, all).Spec.PodSelector.MatchLabels
		require.True(t, labels.SelectorFromSet(inside).Matches(labels.Set(pod.Labels)), component)
	}
	require.True(t, labels.SelectorFromSet(monitor.Spec.Selector.MatchLabels).Matches(labels.Set(service.Labels)))
	require.Equal(t, "aggregator", service.Name, "the job that the alerts name")

	port := deployment.Spec.Template.Spec.Containers[0].Ports[0]
	require.Equal(t, port.Name, service.Spec.Ports[0].TargetPort.String())
	require.Equal(t, service.Spec.Ports[0].Name, monitor.Spec.Endpoints[0].Port)
	require.Equal(t, port.Name, one[*networking.NetworkPolicy](t, all).Spec.Ingress[0].Ports[0].Port.String())
	container := deployment.Spec.Template.Spec.Containers[0]
	require.Equal(t, "/healthz", container.LivenessProbe.HTTPGet.Path)
	require.Equal(t, "/readyz", container.ReadinessProbe.HTTPGet.Path)
	require.Equal(t, port.Name, container.LivenessProbe.HTTPGet.Port.String())
	require.Equal(t, port.Name, container.ReadinessProbe.HTTPGet.Port.String())
}
