"""The limits of retention, from the settings and the size of the file system."""

import logging
import os

from outlast.config import Settings
from outlast.config.settings import MOST_TOTAL_BYTES
from outlast.config.sizes import resolve_part
from outlast.core.retention.policy import RetentionPolicy
from outlast.model.errors import ConfigError

log = logging.getLogger(__name__)

_MEBIBYTE = 1 << 20


def retention_policy(settings: Settings) -> RetentionPolicy:
    """Return the limits, and log that of all output.

    Raises:
        ConfigError: two settings contradict each other.
    """
    folder = os.statvfs(settings.state_path)
    text, whole_bytes = settings.keep_total_bytes, folder.f_frsize * folder.f_blocks
    total_bytes = resolve_part(text, whole_bytes, MOST_TOTAL_BYTES)
    _check(settings, total_bytes)
    if total_bytes:
        log.info("at most %d MiB of output are kept (keep_total_bytes = %s)", total_bytes // _MEBIBYTE, text)
    else:
        log.info("output is kept until the disk is full (keep_total_bytes = %s)", text)
    return RetentionPolicy(
        output_ms=settings.keep_output_s * 1000,
        process_bytes=settings.keep_process_bytes,
        total_bytes=total_bytes,
        ended_ms=settings.keep_ended_s * 1000,
        ended=settings.keep_ended,
        events_ms=settings.keep_events_s * 1000,
    )


def _check(settings: Settings, total_bytes: int) -> None:
    if 0 < total_bytes < settings.keep_process_bytes:
        raise ConfigError(
            f"keep_process_bytes ({settings.keep_process_bytes}) is more than keep_total_bytes "
            f"({settings.keep_total_bytes}, here {total_bytes} bytes): a process could not keep so much"
        )
