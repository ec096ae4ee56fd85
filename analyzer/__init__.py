"""Runs the report queries of a database and gives their rows, verdicts and texts."""

from meshobs.analyzer.answer import Question, Report, connection_batches, connections, evidence, run, texts

__all__ = ["Question", "Report", "connection_batches", "connections", "evidence", "run", "texts"]
