"""Measures, one file each: what is asked for, what it costs, how it is told and kept."""
