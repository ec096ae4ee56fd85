"""The Kubernetes API as the twin serves it."""
