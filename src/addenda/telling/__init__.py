"""Telling: how far long work is, how it is stopped, and how sure a figure is."""
