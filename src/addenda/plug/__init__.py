"""The plug: a base, the modules that are available on it, and which of them act."""
