"""Comparing: every way to give a model knowledge, at one budget, measured alike: what it learns, forgets and costs."""
