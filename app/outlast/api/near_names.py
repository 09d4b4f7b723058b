"""The known name that somebody may have meant by an unknown one."""

import difflib
import re
from collections.abc import Iterable

MAX_NAME_CHARS = 64
"""Maximum number of characters of an unknown name that an answer quotes; a longer one is near no known one."""

_NEAR = 0.75  # one wrong letter in four, such as `nane`
_UNIT = re.compile(r"_(ms|s|secs?|seconds|bytes|kb|mb)$")


def find_near(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest to `name`, if one is near."""
    if len(name) > MAX_NAME_CHARS:
        return None
    given = _plain(name)
    plain = {_plain(other): other for other in known}
    # Swapped letters count more against a short name than difflib allows for.
    found = [other for other in plain if sorted(other) == sorted(given)]
    found += difflib.get_close_matches(given, plain, n=1, cutoff=_NEAR)
    return plain[found[0]] if found else None


def hint(near: str) -> str:
    """Return what an error says behind an unknown name. `near`: the known name that may have been meant."""
    return f"; did you mean {near}?"


def _plain(name: str) -> str:
    """Return a name without what people write in different ways: case, separators, units."""
    return _UNIT.sub("", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()).replace("_", "").replace("-", "")
