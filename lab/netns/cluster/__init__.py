"""What makes a cluster: API server, kubelets, agents and their settings."""
