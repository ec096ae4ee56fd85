// kindconfig reads a cluster file on stdin as `kind create cluster --config -` does, with kind's own parser, defaults
// and validation, and prints what kind makes of it as JSON. tests/support/real_programs.py builds it inside kind's module: its packages
// are internal.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"sigs.k8s.io/kind/pkg/internal/apis/config"
	"sigs.k8s.io/kind/pkg/internal/apis/config/encoding"
)

// mark is set at build time to a hash of this file, so that a change of it is built.
var mark string

func run() error {
	raw, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	cluster, err := encoding.Parse(raw)
	if err != nil {
		return err
	}
	// The order of pkg/cluster/internal/create: defaults, then validation.
	config.SetDefaultsCluster(cluster)
	if err := cluster.Validate(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(cluster)
}

func main() {
	if len(os.Args) > 1 {
		fmt.Println(mark)
		return
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "ERROR: %v\n", err)
		os.Exit(1)
	}
}
