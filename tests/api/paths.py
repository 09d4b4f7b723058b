"""Paths of the routes."""

import re

from outlast.api.route import Route

_FILLED = {
    "ref": "42",
    "session": "42",
    "file": "docs.js",
    "build": "0",
    "project": "shop",
    "namespace": "default",
    "sandbox": "local",
}


def path_of(route: Route, ref: str = _FILLED["ref"]) -> str:
    """Return the path of a route with something in each of its places. `ref`: the process, or the session."""
    filled = {**_FILLED, "ref": ref, "session": ref}
    return re.sub(r"\{(\w+)[^}]*\}", lambda place: filled[place[1]], route.path)
