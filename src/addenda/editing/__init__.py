"""Verbs that write facts."""
