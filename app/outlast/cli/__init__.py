"""The command line: `outlast` and its commands."""

from outlast.cli.main import main

__all__ = ["main"]
