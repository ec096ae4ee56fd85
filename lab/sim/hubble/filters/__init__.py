"""Which flows a request lets through, and which of their fields, as Hubble decides it."""
