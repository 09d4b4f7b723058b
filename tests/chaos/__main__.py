"""`python -m tests.chaos`: a campaign of kills. Ends with 0 if nothing was lost, repeated or disturbed."""

import asyncio
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click

from tests.chaos.run import run


@click.command()
@click.option("--kills", default=1000, show_default=True, type=click.IntRange(min=1), help="How many times to kill.")
@click.option("--seed", type=int, help="Do the same as a campaign before.  [default: a new one]")
@click.option("--minutes", type=float, help="Kill no longer than this.")
def main(kills: int, seed: int | None, minutes: float | None) -> None:
    """Kill daemon and shim, check everything, and say what came of it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: leave nothing running
    seed = random.randrange(1 << 32) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="outlast-chaos-"))
    click.echo(f"seed {seed}, {kills} kills, in {folder}")
    outcome = asyncio.run(run(folder, seed=seed, kills=kills, minutes=minutes))
    click.echo(outcome.summary)
    if outcome.passed:
        shutil.rmtree(folder)
    else:
        click.echo(f"  kept: {folder}")
        sys.exit(1)


if __name__ == "__main__":
    main()
