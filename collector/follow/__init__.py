"""Live streams: what is asked of which Relay, what is missing, and what is fetched for it."""
