"""The command line: `outlast` and its commands."""

from collections.abc import Sequence

from outlast.cli import garbage


def main(args: Sequence[str] | None = None, prog_name: str | None = None) -> None:
    """Run a command, and exit as it does. `args`: its words; None: those of this process."""
    garbage.rest()
    from outlast.cli.main import main as command  # noqa: PLC0415 - most of what is imported

    command(args, prog_name)
