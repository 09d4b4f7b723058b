"""Values of a YAML file that know their line."""

import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from outlast.cli.connect import Failure
from outlast.cli.project.text_files import near, problem, read_text

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_VALUES = 100_000
_MOST_DEPTH = 50
_MERGE = "tag:yaml.org,2002:merge"
_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}


class Value:
    """A value with its place.

    Attributes:
        path: how people call it, such as `processes.web.command`.
    """

    def __init__(self, node: yaml.Node, path: str, expand: Callable[[str], str] = str) -> None:
        self.path = path
        self._node = node
        self._expand = expand

    @property
    def place(self) -> tuple[str, int]:
        """File and line."""
        mark = self._node.start_mark
        return mark.name, mark.line + 1

    @property
    def node(self) -> yaml.Node:
        """The node of YAML."""
        return self._node

    def fail(self, sentence: str) -> Failure:
        """Return the failure that this value is wrong."""
        return problem(*self.place, f"{self.path} {sentence}" if self.path else sentence)

    def with_expansion(self, expand: Callable[[str], str]) -> "Value":
        """Return the value with a function that each text in it goes through."""
        return Value(self._node, self.path, expand)

    @property
    def plain(self) -> Any:
        """A scalar as YAML means it; None for null.

        Raises:
            Failure: it is none.
        """
        if not isinstance(self._node, yaml.ScalarNode):
            raise self.fail("must be a single value")
        kind = self._node.tag.rpartition(":")[2]
        if kind not in _TYPES:
            return self._node.value
        try:
            return SafeConstructor().construct_object(self._node)
        except (ValueError, yaml.YAMLError):
            raise self.fail(f"is not a {kind}: {self._node.value!r}") from None

    @property
    def is_null(self) -> bool:
        """Whether nothing is given."""
        return isinstance(self._node, yaml.ScalarNode) and self.plain is None

    @property
    def is_mapping(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self._node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self._node, yaml.SequenceNode)

    def text(self) -> str:
        """Return a text. Numbers and truth values are as they are written.

        Raises:
            Failure: it is none.
        """
        if not isinstance(self._node, yaml.ScalarNode) or self.plain is None:
            raise self.fail("must be a text")
        found = self._expand(self._node.value)
        if "\0" in found:
            raise self.fail("must not contain NUL")
        return found

    def number(self, least: int = 0) -> int:
        """Return a whole number, which may be written as a text.

        Raises:
            Failure: it is none, or is less than `least`.
        """
        word = self.text() if isinstance(self._node, yaml.ScalarNode) and self.plain is not None else ""
        if isinstance(self.plain, bool) or not word.lstrip("-").isdecimal() or int(word) < least:
            raise self.fail(f"must be a whole number from {least} on")
        return int(word)

    def flag(self) -> bool:
        """Return a truth value.

        Raises:
            Failure: it is none.
        """
        if not isinstance(self.plain, bool):
            raise self.fail("must be true or false")
        return self.plain

    def texts(self) -> list[str]:
        """Return a list of texts.

        Raises:
            Failure: it is none.
        """
        return [value.text() for value in self.values()]

    def values(self) -> list["Value"]:
        """Return the values of a list.

        Raises:
            Failure: it is none.
        """
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.fail("must be a list")
        return [Value(node, f"{self.path}[{n}]", self._expand) for n, node in enumerate(self._node.value)]

    def mapping(self, known: Collection[str] | None = None) -> dict[str, "Value"]:
        """Return the values of a mapping by key.

        Args:
            known: the keys that it may have; None: any.

        Raises:
            Failure: it is none, has another key, or has one twice.
        """
        found: dict[str, Value] = {}
        for key, node in self.pairs():
            name = key.value
            path = f"{self.path}.{name}" if self.path else name
            value = Value(node, path, self._expand)
            if name in found:
                raise Value(key, path).fail(f"is given twice, first in line {found[name].place[1]}")
            if known is not None and name not in known:
                raise Value(key, path).fail(f"is an unknown key{near(name, known)}")
            found[name] = value
        return found

    def pairs(self) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        """Return keys and values, with those that `<<` brings behind, unless they are overridden."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.fail("must be a mapping")
        own, merged = [], []
        for key, node in self._node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise Value(key, self.path).fail("must have texts as keys")
            if key.tag == _MERGE:
                bases = node.value if isinstance(node, yaml.SequenceNode) else [node]
                for base in bases:
                    merged += Value(base, self.path).pairs()
            else:
                own.append((key, node))
        names = {key.value for key, _ in own}
        for key, node in merged:
            if key.value not in names:
                names.add(key.value)
                own.append((key, node))
        return own


class _Named(io.StringIO):
    """A text that has the name of its file, which YAML's marks then have, too."""

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self.name = str(path)


def read_yaml(path: Path) -> Value:
    """Return the one document of a file.

    Raises:
        Failure: it is not YAML, is empty, or has more values than a project can need (aliases count each time).
    """
    try:
        node = yaml.compose(_Named(read_text(path), path), Loader=_LOADER)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        what = " ".join(str(part) for part in (exc.context, exc.problem) if part)
        raise problem(path, mark.line + 1 if mark else None, f"it is not YAML: {what}") from None
    except (yaml.YAMLError, RecursionError) as exc:
        raise problem(path, None, f"it is not YAML: {' '.join(str(exc).split())[:200]}") from None
    if node is None:
        raise problem(path, None, "it is empty")
    _count(node, path)
    return Value(node, "")


def _count(top: yaml.Node, path: Path) -> None:
    """Refuse a document whose aliases stand for too many values, or for themselves."""
    count, rest = 0, [(top, 1)]
    while rest:
        node, depth = rest.pop()
        count += 1
        if count > _MOST_VALUES or depth > _MOST_DEPTH:
            raise problem(
                path, node.start_mark.line + 1, "it has too many values, or is nested too deeply: see its aliases"
            )
        if isinstance(node, yaml.MappingNode):
            rest += [(each, depth + 1) for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            rest += [(each, depth + 1) for each in node.value]


def merge(below: yaml.Node, above: yaml.Node, path: tuple[str, ...] = ()) -> yaml.Node:
    """Return a document over which another one is laid: mappings are joined, and other values replaced.

    Lists of variables are joined, too.
    """
    if path[-1:] == ("environment",) and isinstance(below, yaml.SequenceNode) and isinstance(above, yaml.SequenceNode):
        return _like(above, [*below.value, *above.value])
    if not (isinstance(below, yaml.MappingNode) and isinstance(above, yaml.MappingNode)):
        return above
    upper = {key.value: (key, node) for key, node in above.value}
    pairs = []
    for key, node in below.value:
        if key.value in upper:
            top_key, top = upper.pop(key.value)
            pairs.append((top_key, merge(node, top, (*path, key.value))))
        else:
            pairs.append((key, node))
    return _like(below, [*pairs, *upper.values()])


def _like(node: Any, value: list[Any]) -> yaml.Node:
    made: yaml.Node = type(node)(node.tag, value, node.start_mark, node.end_mark)
    return made
