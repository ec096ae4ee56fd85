"""Driver netns: a real Cluster Mesh on one Linux machine, its nodes and pods as network namespaces."""
