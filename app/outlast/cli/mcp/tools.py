"""The tools: what an agent can do with processes. Each answers in text, and says which call gives more."""

import json
import os
from collections.abc import Awaitable
from contextlib import aclosing
from typing import Annotated, Any, Literal

from pydantic import Field

from outlast.cli.mcp.arguments import CountOf, Moment, Ref, Stream, milliseconds, stream_of
from outlast.cli.mcp.describe import called, ref_of, row, state
from outlast.cli.mcp.quoting import CUT, LINE_CHARACTERS, Quoted, quote, quote_line
from outlast.cli.mcp.reading import Reading, last_rows
from outlast.client import AsyncOutlast, NotRunning, StartOptions
from outlast.model.errors import InvalidRequest

_SHOWN_AT_END = 10
_HINT_STDIN = "start it with stdin=true to write to it"


class Tools:
    """The tools of one daemon."""

    def __init__(self, ol: AsyncOutlast) -> None:
        self._ol = ol

    async def start(
        self,
        command: Annotated[str, Field(description="Shell command line; with args, a program that no shell sees.")],
        *,
        args: Annotated[list[str] | None, Field(description="Arguments of the program.")] = None,
        name: Annotated[str | None, Field(description="A name that later sessions find it by; one at a time.")] = None,
        cwd: Annotated[str | None, Field(description="Folder. Default: the agent's own.")] = None,
        env: Annotated[dict[str, str] | None, Field(description="Variables beside those of the daemon.")] = None,
        tags: Annotated[dict[str, str] | None, Field(description="Tags to find it by.")] = None,
        restart: Annotated[
            Literal["never", "on_failure", "always"] | None, Field(description="When it starts again. Default: never.")
        ] = None,
        stdin: Annotated[bool, Field(description="Whether `send` can write to it.")] = False,
        timeout_s: Annotated[float | None, Field(description="Seconds after which it is killed.")] = None,
    ) -> str:
        """Start a process in the background. It outlasts this session, and every line that it prints is kept."""
        options = StartOptions(cwd=cwd or os.getcwd(), stdin="pipe" if stdin else "closed")  # noqa: PTH109 - a word
        if name is not None or restart is not None:
            options["restart"] = restart or "never"
        optional: dict[str, Any] = {"name": name, "env": env, "tags": tags, "timeout": timeout_s}
        options.update({key: value for key, value in optional.items() if value is not None})  # type: ignore[typeddict-item] # keys of StartOptions
        words = ("sh", "-c", command) if args is None else (command, *args)
        process = await self._ol.start(*words, **options)
        ref = ref_of(process.info)
        return (
            f"started {called(process.info)}, pid {process.pid}, in {quote(process.info.working_dir)}\n"
            f"next: wait(ref={ref!r}, until='output', pattern='listening'), logs(ref={ref!r})"
        )

    async def list(
        self,
        *,
        running: Annotated[bool, Field(description="Only those that run.")] = False,
        name: Annotated[str | None, Field(description="Only those with this name.")] = None,
        tags: Annotated[dict[str, str] | None, Field(description="Only those with all these tags.")] = None,
        since: Moment = None,
        until: Moment = None,
        limit: CountOf = 30,
    ) -> str:
        """List processes, newest first: what runs, and what has ended, also days ago. Each has its @ID."""
        quoted, count, oldest = Quoted(), 0, 0
        found = self._ol.processes(
            status="running" if running else None,
            name=name,
            tags=tags,
            since=milliseconds(since),
            until=milliseconds(until),
        )
        has_more = False
        async with aclosing(found) as processes:
            async for process in processes:
                if count == limit or not quoted.append(row(process.info)):
                    has_more = True
                    break
                count, oldest = count + 1, process.info.started_at
        if not count:
            return "no process was found"
        more = f"there are more: list(until='@{oldest / 1000:.3f}') or a larger limit" if has_more else ""
        return "\n".join(part for part in (*quoted.rows, more) if part)

    async def logs(
        self,
        ref: Ref,
        *,
        tail: CountOf = 100,
        before: Annotated[int | None, Field(ge=1, description="Only lines before this number: page back.")] = None,
        after: Annotated[int | None, Field(ge=0, description="Only lines behind this number: the cursor.")] = None,
        since: Moment = None,
        search: Annotated[str | None, Field(description="Only lines that contain this text.")] = None,
        regex: Annotated[bool, Field(description="`search` is an expression of RE2.")] = False,
        ignore_case: bool = False,
        stream: Stream = "both",
    ) -> str:
        """Read the output of a process: the last `tail` lines, or with `after` or `since` the first ones from there.

        Each line has its number. A last line without a line break comes once it is complete or the process has ended.
        """
        process = await self._ol.process(ref)
        given = {
            "stream": stream_of(stream) or "output",
            "since": milliseconds(since),
            "grep": search,
            "regex": regex,
            "ignore_case": ignore_case,
        }
        reading = Reading(tail)
        is_forward = before is None and (after is not None or since is not None)
        if is_forward:
            await reading.behind(process, after, given)
        elif search is not None and before is None:
            found = self._ol.search(
                search, regex=regex, ignore_case=ignore_case, stream=stream_of(stream), process=process.id
            )
            await reading.found(found)
        else:
            await reading.newest(process, before, given)
        info = process.info
        again = _again(search, regex=regex, ignore_case=ignore_case, stream=stream)
        what = f"{len(reading.rows)} line{'' if len(reading.rows) == 1 else 's'}"
        more = [f"earlier: logs(ref={ref_of(info)!r}, before={reading.first}{again})"] if reading.has_earlier else []
        if is_forward and reading.has_later:
            more.append(f"there is more: logs(ref={ref_of(info)!r}, after={reading.last}{again})")
        else:
            newest = reading.last if before is not None else max(info.output.last_seq, reading.last)
            more.append(f"what comes later: logs(ref={ref_of(info)!r}, after={newest}{again})")
        if any(CUT in each for each in reading.rows):
            more.append(f"more of a cut line N: logs(ref={ref_of(info)!r}, after=N-1, tail=1)")
        return "\n".join((f"{called(info)}, {state(info)}; {what} here, quoted behind |:", *reading.rows, *more))

    async def wait(
        self,
        ref: Ref,
        *,
        until: Annotated[
            Literal["exit", "output", "port", "idle"],
            Field(description="Its end, a line that matches `pattern`, a TCP `port` that listens, silence."),
        ] = "exit",
        pattern: Annotated[str | None, Field(description="Expression of RE2. Stored lines count, too.")] = None,
        after: Annotated[int | None, Field(ge=0, description="Only lines behind this number.")] = None,
        port: Annotated[int | None, Field(ge=1, le=65535)] = None,
        idle_s: Annotated[float, Field(gt=0, description="Seconds without output.")] = 2.0,
        timeout_s: Annotated[float, Field(gt=0, le=3600, description="Answer after so long in any case.")] = 30.0,
    ) -> str:
        """Wait for a process: for its end, a line, a port or silence. Not in time is an answer, not an error."""
        process = await self._ol.process(ref)
        met: list[str] = []

        async def look() -> None:
            if until == "exit":
                await process.wait(timeout_s)
            elif until == "port":
                await process.wait_for_port(_needed(port, "port"), timeout=timeout_s)
            elif until == "idle":
                await process.wait_idle(idle_s, timeout=timeout_s)
            else:
                line = await process.wait_for_output(_needed(pattern, "pattern"), after=after, timeout=timeout_s)
                met.append(quote_line(line.seq, line.stream, line.text))

        outcome = await _outcome(look(), until, timeout_s)
        shown = met or await last_rows(process, _SHOWN_AT_END)
        await process.refresh()
        name = ref_of(process.info)
        what = "the line" if met else "its last lines"
        head = f"{outcome}: {called(process.info)}, {state(process.info)}"
        return "\n".join((f"{head}; {what}, quoted behind |:" if shown else head, *shown, f"next: logs(ref={name!r})"))

    async def send(
        self,
        ref: Ref,
        text: Annotated[str, Field(description="What is written to its standard input.")] = "",
        *,
        newline: Annotated[bool, Field(description="Whether a line break is added.")] = True,
        eof: Annotated[bool, Field(description="Whether standard input is closed afterwards.")] = False,
    ) -> str:
        """Write to the standard input of a process that was started with stdin=true."""
        process = await self._ol.process(ref)
        if not process.info.stdin_writable:
            return f"nothing was written: {called(process.info)} takes no input; {_HINT_STDIN}"
        data = text + ("\n" if newline and (text or not eof) else "")
        if data:
            await process.send(data)
        if eof:
            await process.close_stdin()
        written = f"{len(data.encode())} bytes were written to {called(process.info)}"
        last, name = process.info.output.last_seq, ref_of(process.info)
        closed = ", and its input is closed" if eof else ""
        return f"{written}{closed}\nwhat it answers: logs(ref={name!r}, after={last})"

    async def signal(
        self,
        ref: Ref,
        signal: Annotated[str, Field(description="Name or number, such as INT or HUP.")],
        *,
        tree: Annotated[bool, Field(description="To all it has started, not to its process group.")] = False,
    ) -> str:
        """Send a signal to a process."""
        process = await self._ol.process(ref)
        await process.signal(signal, scope="tree" if tree else None)
        return f"{quote(signal)} was sent to {called(process.info)}"

    async def stop(
        self,
        ref: Ref,
        *,
        grace_s: Annotated[float | None, Field(ge=0, description="Kill after so long. Default: 10.")] = None,
    ) -> str:
        """Ask a process to end, and kill it and all it has started if it does not. Its output is kept."""
        process = await self._ol.process(ref)
        warnings = await process.stop(grace_s)
        await process.refresh()
        ended = f"{called(process.info)}, {state(process.info)}, which are kept: logs(ref={ref_of(process.info)!r})"
        return "\n".join((ended, *(quote(warning, LINE_CHARACTERS) for warning in warnings)))

    async def restart(self, ref: Ref) -> str:
        """Start a process with a name again: it ends first if it runs. Its lines go on counting."""
        process = await self._ol.process(ref)
        last = process.info.output.last_seq
        await process.restart()
        name = ref_of(process.info)
        return (
            f"{called(process.info)}, {state(process.info)}; pid {process.pid}\n"
            f"its new output: logs(ref={name!r}, after={last})"
        )


def _again(search: str | None, *, regex: bool, ignore_case: bool, stream: str) -> str:
    """Return the arguments that the next call has to repeat."""
    given = {
        "search": search,
        "regex": True if regex else None,
        "ignore_case": True if ignore_case else None,
        "stream": None if stream == "both" else stream,
    }
    return "".join(
        f", {name}={quote(json.dumps(value, ensure_ascii=False), LINE_CHARACTERS)}"
        for name, value in given.items()
        if value is not None
    )


def _needed(value: Any, name: str) -> Any:
    if value is None:
        raise InvalidRequest(f"until names what needs {name}, which is missing")
    return value


async def _outcome(waiting: Awaitable[None], until: str, timeout_s: float) -> str:
    try:
        await waiting
    except TimeoutError:
        return f"not within {timeout_s:g} s (call it again to wait on)"
    except NotRunning:
        return f"this will not come: the process has ended (until={until!r})"
    return "done"
