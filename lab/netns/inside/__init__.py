"""Programs that run inside a namespace: stand-alone, the standard library only, started by their path."""
