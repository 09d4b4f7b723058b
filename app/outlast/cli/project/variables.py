"""Variables: files of them, and where a text names them."""

import io
import re
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import parse_stream

from outlast.cli.project.text_files import problem, read_text

_NAMED = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))")


def read_variables(path: Path, known: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a file such as `.env`.

    Args:
        path: the file.
        known: variables that its values may name, besides those before in the file.

    Raises:
        Failure: it cannot be read, or a line is not a variable.
    """
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(read_text(path))):
        if binding.error:
            raise problem(path, binding.original.line, f"{binding.original.string.strip()!r} is not KEY=VALUE")
        if binding.key is None:
            continue
        if binding.value is None:
            raise problem(path, binding.original.line, f"{binding.key} has no value: write {binding.key}=VALUE")
        is_literal = binding.original.string.partition("=")[2].lstrip().startswith("'")
        found[binding.key] = binding.value if is_literal else expand(binding.value, {**known, **found})
    return found


def expand(text: str, known: Mapping[str, str]) -> str:
    """Return a text with the values of the variables that it names, as `$NAME`, `${NAME}` or `${NAME:-DEFAULT}`.

    `$$` is a dollar sign. A name that is not known stays as it is: a shell may know it.
    """

    def value(match: re.Match[str]) -> str:
        dollar, braced, default, plain = match.groups()
        if dollar:
            return "$"
        name = braced or plain
        if name in known and (known[name] or default is None):
            return known[name]
        return match[0] if default is None else str(default)

    return _NAMED.sub(value, text) if "$" in text else text
