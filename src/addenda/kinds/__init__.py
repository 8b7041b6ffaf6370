"""Kinds of modules, one file each; a file knows its method and nothing of hooks, files or servers."""
