"""Registry of storage plug-ins: the scheme of a URL is a name in the entry-point group `outlast.storage`."""

import functools
from importlib.metadata import EntryPoints, entry_points

from outlast.model.errors import StorageError
from outlast.storage.base import Storage

GROUP = "outlast.storage"


def storage_from_url(url: str, *, durable: bool = True, compress_after_s: int | None = None) -> Storage:
    """Return the storage that `url` names, not open yet.

    Raises:
        StorageError: no plug-in has the scheme of the URL as its name, or the plug-in does not understand the URL.
    """
    scheme, colon, _ = url.partition(":")
    found = _plugins()
    if not colon or scheme not in found.names:
        known = ", ".join(sorted(found.names)) or "none: is outlast installed?"
        raise StorageError(f"storage {url!r}: no storage plug-in is named {scheme!r} (installed: {known})")
    plugin: type[Storage] = found[scheme].load()
    return plugin.from_url(url, durable=durable, compress_after_s=compress_after_s)


@functools.cache  # the search reads a file of each installed package
def _plugins() -> EntryPoints:
    return entry_points(group=GROUP)
