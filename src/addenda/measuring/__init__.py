"""Measures, one file each: what a model with a module has learned, kept and left alone."""
