"""A lab in another process: what both ends say to each other, and the near end."""
