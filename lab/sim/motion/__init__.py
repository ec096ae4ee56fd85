"""A world that changes and clients that call, on one timeline."""
