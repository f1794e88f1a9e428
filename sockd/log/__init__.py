"""Formats and targets of the log."""
