"""The command line.  Nothing heavy is imported before a command runs, so ``--help`` is quick."""

from krylovh.cli.app import main

__all__ = ["main"]
