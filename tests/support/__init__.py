"""What tests share: meshes made by hand, nodes before real Relays, the twin held to recordings, real programs."""
