"""Contracts, state and records that every other floor builds on; knows no model library."""
