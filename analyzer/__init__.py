"""Runs the report queries of a database and gives their rows, verdicts and texts."""

from meshobs.analyzer.answer import Question, Report, evidence, run, texts

__all__ = ["Question", "Report", "evidence", "run", "texts"]
