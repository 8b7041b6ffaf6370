"""The command line: one small file for each verb, a thin shell over one public function."""

from addenda.cli.application import app, main

__all__ = ["app", "main"]
