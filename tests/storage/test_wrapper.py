"""The storage wrapper forwards every call of the contract."""

import inspect

import pytest

from outlast.storage.base import Storage
from outlast.storage.wrapper import StorageWrapper

CALLS = [
    name for name, member in vars(Storage).items() if inspect.iscoroutinefunction(member) and not name.startswith("_")
]


class Recorder:
    """An inner storage that notes each call and answers with the call's own name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = []

    def __getattr__(self, name: str) -> object:
        async def call(*args: object, **kwargs: object) -> str:
            self.calls.append((name, args, kwargs))
            return name

        return call


class Wrapper(StorageWrapper):
    @classmethod
    def from_url(cls, url: str, *, durable: bool, compress_after_s: int | None = None) -> "Wrapper":
        raise NotImplementedError


def test_the_walk_finds_every_abstract_method() -> None:
    assert Storage.__abstractmethods__ - {"from_url"} <= set(CALLS)
    assert "sql" in CALLS


@pytest.mark.parametrize("name", CALLS)
async def test_each_call_is_forwarded_with_its_arguments(name: str) -> None:
    inner = Recorder()
    parameters = list(inspect.signature(getattr(Storage, name)).parameters.values())[1:]
    args = tuple(object() for each in parameters if each.kind is not each.KEYWORD_ONLY)
    kwargs = {each.name: object() for each in parameters if each.kind is each.KEYWORD_ONLY}
    answer = await getattr(Wrapper(inner), name)(*args, **kwargs)  # type: ignore[arg-type]
    assert inner.calls == [(name, args, kwargs)]
    assert answer == (None if name in {"open", "close", "check", "claim", "finish_cleanup"} else name)
