"""The tree of errors is drawn in one place, and is the true one."""

import ast
import builtins
from pathlib import Path

from outlast.model import errors

APP = Path(__file__).parent.parent / "app"


def exceptions() -> dict[str, str]:
    """Return the name of every exception class of the product with that of its base."""
    bases = {
        node.name: ast.unparse(node.bases[0])
        for path in APP.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.bases
    }

    def is_exception(name: str) -> bool:
        builtin = getattr(builtins, name, None)
        if isinstance(builtin, type):
            return issubclass(builtin, BaseException)
        return name in bases and is_exception(bases[name])

    return {name: base for name, base in bases.items() if is_exception(name)}


def drawn() -> dict[str, str]:
    """Return the tree in the docstring of `outlast.model.errors`: each name with that of its parent."""
    assert errors.__doc__ is not None
    found: dict[str, str] = {}
    path = [""]
    for line in errors.__doc__.splitlines():
        branch, dashes, rest = line.rpartition("-- ")
        if not dashes and line.startswith(("OutlastError", "Exception", "OSError")):
            path = [line.split()[0]]
        elif dashes:
            depth = len(branch) // 4 + 1
            name = rest.split()[0]
            found[name] = path[depth - 1]
            path[depth:] = [name]
    return found


def test_the_drawn_tree_of_errors_is_complete() -> None:
    assert drawn() == {name: base for name, base in exceptions().items() if name != "OutlastError"}
