"""meshobs shows and proves where traffic goes in a Cilium Cluster Mesh."""

__version__ = "0.1.0"
