"""The real programs of a mesh: built by Go, and what a machine must have to run them."""
