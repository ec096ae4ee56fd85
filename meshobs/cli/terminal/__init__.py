"""How commands talk with the user: options, the session, output."""
