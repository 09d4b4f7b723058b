"""How a storage plug-in is found: the URL's scheme is a name in the entry-point group `outlast.storage`."""

from importlib.metadata import entry_points

from outlast.model.errors import StorageError
from outlast.storage.base import Storage

GROUP = "outlast.storage"


def storage_from_url(url: str, *, durable: bool = True, compress_after_s: int = 0) -> Storage:
    """Make the (closed) storage that `url` names.

    Raises:
        StorageError: no plug-in goes by the URL's scheme, or the plug-in refuses the URL.
    """
    scheme, colon, _ = url.partition(":")
    found = entry_points(group=GROUP)
    if not colon or scheme not in found.names:
        known = ", ".join(sorted(found.names)) or "none: is outlast installed?"
        raise StorageError(f"storage {url!r}: no storage plug-in is called {scheme!r} (installed: {known})")
    plugin: type[Storage] = found[scheme].load()
    return plugin.from_url(url, durable=durable, compress_after_s=compress_after_s)
