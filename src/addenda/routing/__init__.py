"""Routing: prompts to selections."""
