"""`python -m tests.soak`: a long life under load. Ends with 0 if nothing grows and nothing is wrong."""

import asyncio
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click

from tests.soak.run import run


@click.command()
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(min=0.1), help="How long.")
@click.option("--seed", type=int, help="Choose as a soak before did.  [default: a new one]")
def main(minutes: float, seed: int | None) -> None:
    """Start, end, follow and restart for a while, and see whether daemon and shim hold more than before."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: leave nothing running
    seed = random.randrange(1 << 32) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="outlast-soak-"))
    click.echo(f"seed {seed}, {minutes:g} minutes, in {folder}")
    outcome = asyncio.run(run(folder, seed=seed, minutes=minutes))
    click.echo(outcome.text)
    if outcome.problems:
        click.echo(f"  kept: {folder}")
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
