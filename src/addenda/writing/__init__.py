"""Writing knowledge into modules: packed data, the training loop, exact checkpoints, reports."""
