"""Conducting: what is asked for is opened, foretold, run, told, and written into the card."""
