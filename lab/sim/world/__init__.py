"""What the mesh is at one moment: frozen values, and the changes from one to the next. Pure."""
