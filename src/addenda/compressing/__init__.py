"""Compressing: a smaller module, with what that lost."""
