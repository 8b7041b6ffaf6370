"""Removing: what a module knows, or the module whole, with proof."""
