"""Messages and lines -> Arrow batches. No Python for each flow."""
