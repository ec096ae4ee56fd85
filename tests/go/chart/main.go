// chart renders a chart's folder without a cluster, as `helm template` does: values files, then --set, checked by the
// chart's own schema. It prints the objects as a JSON list. tests/support/real_programs.py builds it inside Helm's module.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	"helm.sh/helm/v3/pkg/strvals"
)

// mark is set at build time to a hash of this file, so that a change of it is built.
var mark string

type texts []string

func (list *texts) String() string { return strings.Join(*list, ",") }

func (list *texts) Set(text string) error {
	*list = append(*list, text)
	return nil
}

func values(files, sets texts) (map[string]any, error) {
	merged := map[string]any{}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		read := map[string]any{}
		if err := yaml.Unmarshal(content, &read); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		merged = chartutil.MergeTables(read, merged)
	}
	for _, text := range sets {
		if err := strvals.ParseInto(text, merged); err != nil {
			return nil, fmt.Errorf("--set %s: %w", text, err)
		}
	}
	return merged, nil
}

func run() error {
	var files, sets texts
	flag.Var(&files, "f", "values file, repeatable")
	flag.Var(&sets, "set", "KEY=VALUE, repeatable")
	version := flag.String("kube-version", "v1.33.2", "of Kubernetes")
	namespace := flag.String("namespace", "kube-system", "of the release")
	flag.Parse()

	folder, err := loader.LoadDir(flag.Arg(0))
	if err != nil {
		return err
	}
	given, err := values(files, sets)
	if err != nil {
		return err
	}
	if err := chartutil.ProcessDependencies(folder, given); err != nil {
		return err
	}
	kube, err := chartutil.ParseKubeVersion(*version)
	if err != nil {
		return err
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *kube
	release := chartutil.ReleaseOptions{Name: "cilium", Namespace: *namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(folder, given, release, capabilities)
	if err != nil {
		return err
	}
	rendered, err := engine.Render(folder, all)
	if err != nil {
		return err
	}
	objects := []any{}
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if path.Base(name) == "NOTES.txt" {
			continue
		}
		manifests := releaseutil.SplitManifests(rendered[name])
		for _, key := range slices.Sorted(maps.Keys(manifests)) {
			var object any
			if err := yaml.Unmarshal([]byte(manifests[key]), &object); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if object != nil {
				objects = append(objects, object)
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(objects)
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "mark" {
		fmt.Println(mark)
		return
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "Error: %v\n", err)
		os.Exit(1)
	}
}
