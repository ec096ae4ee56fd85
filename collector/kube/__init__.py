"""Talking with a cluster's Kubernetes API: objects, lists and watches, port-forward."""
