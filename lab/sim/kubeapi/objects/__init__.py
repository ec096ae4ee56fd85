"""The objects that the API shows, made from the world."""
