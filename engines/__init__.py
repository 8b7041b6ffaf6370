"""Merged models in other engines: each in a virtual environment of its own, greedy tokens compared with transformers'."""
