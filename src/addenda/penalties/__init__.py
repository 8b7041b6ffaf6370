"""Penalties, one file each: what training pays for changing what should stay as it was."""
