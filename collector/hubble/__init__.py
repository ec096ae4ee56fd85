"""Talking with a Hubble Relay: addresses, TLS, short calls, the stream of flows, filters."""
