"""`python -m bench`: figures of Outlast and of its peers, measured in the same minutes.

Everything runs in a temporary folder (TMPDIR chooses where) and on loopback, and is ended at the end.
"""

import argparse
import tempfile
from pathlib import Path

from bench import machine, measure, report
from bench.interrupt import end_when_interrupted
from bench.measures import MEASURES


def main() -> None:
    """Measure, print the tables of each measure and one of all, and keep what was measured."""
    options = _options()
    end_when_interrupted()
    about = machine.describe(Path(tempfile.gettempdir()))
    load = machine.load()
    print("\n".join(about), flush=True)
    results = []
    for name in options.only or MEASURES:
        chosen = MEASURES[name]
        size = options.size or (chosen.smoke_size if options.smoke else chosen.size)
        results.append(measure.run(chosen, size, options.rounds))
        print(report.show(results[-1]), flush=True)
    kept = report.record(results, [*about, f"load      {load:.1f} at the start, {machine.load():.1f} at the end"])
    print(f"\n{report.summary(kept)}")
    if options.keep:
        print("\nkept in", *report.keep(kept, options.keep))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Figures of Outlast beside its peers.")
    parser.add_argument("--only", choices=MEASURES, action="append", help="measure to run; may be repeated [all]")
    parser.add_argument("--rounds", type=_positive, default=3, help="rounds; each runs every contestant once [3]")
    parser.add_argument("--size", type=_positive, help="amount of work [each measure has its own]")
    parser.add_argument("--smoke", action="store_true", help="a minimum of work, to test the bench itself")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="folder for the files with the figures")
    return parser.parse_args()


def _positive(word: str) -> int:
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    main()
