"""Readers of terminals, where output is missing in the store."""

from outlast.core.terminals.reader import TerminalReader
from outlast.model.retention import Rule
from outlast.storage import TrimOutput
from outlast.storage.memory import MemoryStorage
from outlast.testing.storage.samples import EPOCH_MS, Output, added


async def test_a_screen_may_lack_what_was_deleted() -> None:
    storage = MemoryStorage.from_url("memory:", durable=False)
    await storage.open()
    output = Output(await added(storage))
    await storage.commit([output.chunk(b"gone "), output.chunk(b"left")])
    process = await storage.process(output.handle)
    assert process is not None
    assert await TerminalReader(storage, process, None).show_screen() == (b"gone left", False)
    await storage.commit([TrimOutput(output.handle, 1, EPOCH_MS, Rule.OUTPUT_S)])
    assert await TerminalReader(storage, process, None).show_screen() == (b"left", True)
    await storage.close()


async def test_missing_output_is_missing_in_front_of_what_is_read() -> None:
    storage = MemoryStorage.from_url("memory:", durable=False)
    await storage.open()
    output = Output(await added(storage))
    await storage.commit([output.chunk(b"before"), output.gap(10), output.chunk(b"behind")])
    process = await storage.process(output.handle)
    assert process is not None
    reader = TerminalReader(storage, process, None)
    await reader.seek(0)
    assert (await reader.read(), reader.offset) == (b"before", 6)
    assert (await reader.read(), reader.offset) == (b"behind", 22)
    assert (await reader.read(), reader.has_ended()) == (b"", True)
    await storage.close()
