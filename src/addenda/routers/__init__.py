"""Routers, one file each: which modules a prompt is answered with."""
