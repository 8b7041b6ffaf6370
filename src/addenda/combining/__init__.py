"""Combining modules with the base and with one another."""
