"""Compressors, one file each: how a module becomes smaller."""
