"""Forgetters, one file each: how a module loses what it should not know."""
