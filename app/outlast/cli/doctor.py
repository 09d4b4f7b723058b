"""`doctor`: what stands between this command and a daemon that works, and what to do about it."""

from collections.abc import Iterator

import click

from outlast import __version__
from outlast.cli.connect import HOST, sentence_of
from outlast.cli.messages import say
from outlast.client import Disconnected, Outlast, OutlastError, Unauthorized, Unavailable

_PATIENCE_S = 2.0


@click.command("doctor", short_help="Look for what is wrong.")
@HOST
def doctor_command(host: str | None) -> None:
    """Look for a daemon, its token, its version and its health, and say what is wrong. Exits with 1 if anything is."""
    is_well = True
    for is_good, sentence in _look(host):
        is_well = is_well and is_good
        say(f"{'ok ' if is_good else '!! '} {sentence}")
    if not is_well:
        raise click.exceptions.Exit(1)


def _look(host: str | None) -> Iterator[tuple[bool, str]]:
    """Yield whether each thing is as it should be, with a sentence. The first that is missing hides the others."""
    with Outlast(host, give_up_after=_PATIENCE_S) as ol:
        try:
            info = ol.info()
        except Unauthorized as exc:
            yield True, f"a daemon answers at {ol.address.where}"
            yield False, sentence_of(exc, ol.address, has_answered=True)
            return
        except Disconnected as exc:
            yield (
                False,
                f"{exc}; start one with `outlast serve`, or name another with -H, OUTLAST_URL or OUTLAST_STATE_DIR",
            )
            return
        except OutlastError as exc:
            yield False, f"the daemon at {ol.address.where} does not tell about itself: {exc}"
            return
        yield True, f"a daemon answers at {ol.address.where}, and takes the token in {ol.address.token_from}"
        yield _same("daemon", info.version, "restart it (its processes run on)")
        yield _same("shim", info.shim_version, "`outlast shim upgrade` replaces it (its processes run on)")
        try:
            warnings = ol.health()
        except Unavailable as exc:
            yield False, f"the daemon is not healthy: {exc}"
        else:
            yield True, "the daemon is healthy: store and shim work"
            for warning in warnings:
                yield False, warning
        yield True, f"{info.running_processes:,} processes run, and {info.total_processes:,} are stored"


def _same(what: str, version: str | None, advice: str) -> tuple[bool, str]:
    if version is None:
        return False, f"the {what} is not connected"
    if version != __version__:
        return False, f"the {what} has version {version}, and this command {__version__}: {advice}"
    return True, f"the {what} has the version of this command, {version}"
