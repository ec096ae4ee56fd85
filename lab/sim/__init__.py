"""Driver sim: a twin of a Cilium Cluster Mesh in one Python process that serves the real APIs."""
