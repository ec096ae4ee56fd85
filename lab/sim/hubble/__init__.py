"""Hubble as agents and Relays serve it: rings, GetFlows, fan-out, sorting."""
