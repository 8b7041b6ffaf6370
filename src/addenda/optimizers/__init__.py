"""Optimizers, one file each: how a module's parameters follow their gradients."""
