"""One call on its way through the hooks of its nodes, packet by packet, and the events they emit. Pure."""
