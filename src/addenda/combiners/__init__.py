"""Combiners, one file each: how several modules become one."""
