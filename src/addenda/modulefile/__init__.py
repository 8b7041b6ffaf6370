"""A module's folder on disk: its tensors, its card, the hub, and PEFT's format of it."""
