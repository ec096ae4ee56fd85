"""Batches, counters, positions and facts -> the store. The only stage of the collector that knows it."""
