"""Penalties, one file each: what a module pays for disturbing tokens that it should leave alone."""
