"""What a mesh is described by: its clusters, nodes, services; the file for it; versions."""
