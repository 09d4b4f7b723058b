"""The client. Made of `async_client.py` by `make fix`: change that one."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from os import PathLike
from types import TracebackType
from typing import Any, Self, Unpack

from outlast.client import calls
from outlast.client.address import find_address
from outlast.client.errors import ProcessFailed
from outlast.client.group import FollowGroup, GroupItem
from outlast.client.items import Ended, Event, Gap, Line, Started, milliseconds
from outlast.client.options import StartOptions, put_body, start_body
from outlast.client.records import Completed, Info, Match, Rows
from outlast.client.request import Request
from outlast.client.running import Item, Running
from outlast.client.stored import StoredEvents
from outlast.client.subscription import Events, Subscription
from outlast.client.sync_process import Process
from outlast.client.sync_session import Session
from outlast.client.sync_transport import Transport
from outlast.model.errors import OutlastError

GIVE_UP_AFTER_S = 30.0


class Outlast:
    """A daemon of Outlast.

    Calls that break are repeated if it does no harm: reads, starts (each has a key), ends. Others raise `Interrupted`
    if nobody knows whether they were done. Streams connect again by themselves.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, *, give_up_after: float | None = GIVE_UP_AFTER_S
    ) -> None:
        """Find the daemon; nothing connects yet.

        Args:
            url: `http://HOST:PORT`, `https://...` or `unix:PATH`. None: `OUTLAST_URL`, or the address that the daemon
                has written into the state folder, or the setting `listen`.
            token: API token. None: `OUTLAST_TOKEN`, or the file `token` in the state folder.
            give_up_after: seconds for which a call whose connection breaks is repeated; None: for ever.

        Raises:
            ConfigError: the URL is none, or the settings or the token file cannot be read.
        """
        self.address = find_address(url, token)
        self._session = Session(Transport(self.address), give_up_after)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    @property
    def has_answered(self) -> bool:
        """Whether the daemon has answered a request of this client yet."""
        return self._session.has_answered

    # ---- processes

    def start(self, command: str | PathLike[str], *args: str, **options: Unpack[StartOptions]) -> Process:
        """Start a process. With a `key` that was used before, return the process of that start.

        Raises:
            SpawnFailed: the kernel could not start it; `errno` says why.
            NameInUse: another live process has the name.
        """
        body = start_body(command, args, options)
        return Process(self._session, self._session.call(calls.start(body)))

    def replace(
        self, command: str | PathLike[str], *args: str, **options: Unpack[StartOptions]
    ) -> tuple[Process, bool]:
        """Change the process that has this `name` to another specification, or start it, if there is none.

        It stays the same process: its id and the numbers of its lines go on. If it has this specification already, and
        is to run, nothing is done.

        Returns:
            The process, and whether a run was started.

        Raises:
            SpawnFailed: the specification cannot be started; the process has the one before.
            NotManaged: the process that has had this name is not managed.
            KeyError: there is no `name` among the options.
        """
        bodies = put_body(command, args, options), start_body(command, args, options)
        info, is_changed = self._session.call(calls.replace(options["name"], *bodies))
        return Process(self._session, info), is_changed

    def run(
        self, command: str | PathLike[str], *args: str, check: bool = False, **options: Unpack[StartOptions]
    ) -> Completed:
        """Run a command to its end, and return how it ended and its output. If the call is left, it is killed.

        Raises:
            SpawnFailed: the kernel could not start it; `errno` says why.
            ProcessFailed: it did not exit with 0, and `check` is true.
            ProcessGone: it was purged meanwhile.
        """
        started, ended, lines = Started("", 0, 0), Ended("lost", None, None), []
        with closing(self.run_stream(command, *args, **options)) as items:
            for item in items:
                if isinstance(item, Line):
                    lines.append(item)
                elif isinstance(item, Started):
                    started = item
                elif isinstance(item, Ended):
                    ended = item
        completed = Completed(
            id=started.id,
            pid=started.pid,
            exit_code=ended.exit_code,
            signal=ended.signal,
            reason=ended.reason,
            lines=lines,
        )
        if check and completed.exit_code != 0:
            how = f"exited with {ended.exit_code}" if ended.reason == "exited" else f"ended: {ended.reason}"
            raise ProcessFailed(f"{command} {how}", completed)
        return completed

    def run_stream(
        self,
        command: str | PathLike[str],
        *args: str,
        on_reconnect: Callable[[int], None] | None = None,
        **options: Unpack[StartOptions],
    ) -> Generator[Item, None]:
        """Run a command, and yield its start, its whole lines as they come, and its end.

        If the generator is closed before the end, the command and everything it started are killed.
        """
        running = Running(start_body(command, args, options), None, on_reconnect)
        try:
            with closing(self._session.batches(running)) as batches:
                for items in batches:
                    yield from items
        finally:
            for process_id in running.unfinished:
                with suppress(OutlastError):  # the error that the call ends with says more
                    self._session.call(calls.end(process_id))

    def process(self, ref: str | int) -> Process:
        """Return a process by its id, name, pid or handle (`@12`).

        Raises:
            NotFound: there is none.
        """
        return Process(self._session, self._session.call(calls.look(ref)))

    def processes(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        since: datetime | int | None = None,
        until: datetime | int | None = None,
        order: str = "newest",
        usage: bool = False,
    ) -> Generator[Process, None]:
        """Yield processes: the newest 1000 and all that run, then the others.

        Args:
            status: only those whose current or last run has this status.
            name: only those with this name.
            tags: only those with all these tags.
            since: only those whose first run started at this time or later (a datetime, or milliseconds since 1970).
            until: only those whose first run started at this time or earlier.
            order: `newest` or `oldest` first.
            usage: whether `info.usage` is asked for.
        """
        query = {
            "status": status,
            "name": name,
            "tag": calls.tag_words(tags),
            "since": milliseconds(since),
            "until": milliseconds(until),
            "order": order,
            "usage": usage or None,
        }
        had = set()
        with closing(self._session.pages(lambda cursor: calls.processes(query, cursor))) as found:
            for info in found:
                if info.id in had:
                    continue
                if info.is_running:
                    had.add(info.id)
                yield Process(self._session, info)

    # ---- output of several processes

    def follow(
        self,
        refs: Sequence[str | int | Process] = (),
        *,
        tags: Mapping[str, str] | None = None,
        stream: str | None = None,
        tail: int | None = None,
        since: datetime | int | None = None,
        give_up_after: float | None = None,
        on_reconnect: Callable[[Mapping[str, int]], None] | None = None,
    ) -> Generator[GroupItem, None]:
        """Yield the stored output of processes, then new output as it comes, each item with its process.

        The items are in the order in which they were read; the last one of a process is `Ended`. None is missing and
        none comes twice, whatever happens to the daemon. Without `tags`, the stream ends with the last process.

        Args:
            refs: processes.
            tags: all processes with all these tags, those that run now and those that start later. 100 at a time.
            stream: `stdout` or `stderr`; None: both.
            tail: start this number of lines before the end of each process.
            since: only lines that were read at this time or later (a datetime, or milliseconds since 1970).
            give_up_after: seconds without a connection after which `Disconnected` is raised; None: never.
            on_reconnect: function that is called when a broken stream goes on, with the `seq` behind which each
                process does, by its permanent id.

        Raises:
            NotFound: one of the processes is not there.
        """
        found = self.follow_batches(
            refs,
            tags=tags,
            stream=stream,
            tail=tail,
            since=since,
            give_up_after=give_up_after,
            on_reconnect=on_reconnect,
        )
        with closing(found) as batches:
            for items in batches:
                yield from items

    def follow_batches(
        self,
        refs: Sequence[str | int | Process] = (),
        *,
        tags: Mapping[str, str] | None = None,
        stream: str | None = None,
        tail: int | None = None,
        since: datetime | int | None = None,
        give_up_after: float | None = None,
        on_reconnect: Callable[[Mapping[str, int]], None] | None = None,
    ) -> Generator[list[GroupItem], None]:
        """Yield what `follow` yields, in lists: as many items as have come at once."""
        query = {
            "process": [ref.id if isinstance(ref, Process) else ref for ref in refs],
            "tag": calls.tag_words(tags),
            "stream": stream,
            "tail": tail,
            "since": milliseconds(since),
        }
        group = FollowGroup(query, give_up_after, on_reconnect)
        with closing(self._session.batches(group)) as batches:
            yield from batches

    # ---- events, search, SQL

    def events(
        self,
        *,
        after: int | None = None,
        tail: int | None = None,
        process: str | None = None,
        types: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        since: datetime | int | None = None,
        follow: bool = True,
        give_up_after: float | None = None,
        on_reconnect: Callable[[int], None] | None = None,
    ) -> Generator[Event | Gap, None]:
        """Yield stored events, then new ones as they come, without end. No event is missing, and none comes twice.

        A `Gap` stands for events that were deleted because they were old.

        Args:
            after: start behind the event with this id.
            tail: start this number of events before the end.
            process: only events of the process with this permanent id.
            types: only events of these types.
            tags: only events of processes with all these tags.
            since: only events of this time or later (a datetime, or milliseconds since 1970).
            follow: False: only those that are stored.
            give_up_after: seconds without a connection after which `Disconnected` is raised; None: never.
            on_reconnect: function that is called when a broken stream goes on, with the id behind which it does.
        """
        query = {
            "after": after,
            "tail": tail,
            "process": process,
            "type": types,
            "tag": calls.tag_words(tags),
            "since": milliseconds(since),
        }
        events: Subscription[Event | Gap] = StoredEvents("/events", query, give_up_after)
        if follow:
            newest = 0 if tail is None else self._session.call(calls.newest_event())
            events = Events("/events", query, newest=newest, give_up_after_s=give_up_after, on_reconnect=on_reconnect)
        with closing(self._session.batches(events)) as batches:
            for items in batches:
                yield from items

    def search(
        self,
        text: str,
        *,
        regex: bool = False,
        ignore_case: bool = False,
        stream: str | None = None,
        since: datetime | int | None = None,
        until: datetime | int | None = None,
        tags: Mapping[str, str] | None = None,
        process: str | None = None,
        name: str | None = None,
        order: str = "newest",
        on_incomplete: Callable[[], None] | None = None,
    ) -> Generator[Match, None]:
        """Yield the stored lines that contain a text, or match an expression of RE2.

        Args:
            text: text or expression.
            regex: whether `text` is an expression.
            ignore_case: whether upper and lower case are the same.
            stream: `stdout` or `stderr`; None: both.
            since: only lines that were read at this time or later (a datetime, or milliseconds since 1970).
            until: only lines that were read at this time or earlier.
            tags: only output of processes with all these tags.
            process: only output of the process with this permanent id.
            name: only output of processes with this name.
            order: `newest` or `oldest` first.
            on_incomplete: function that is called at the end if output was deleted that may have matched.
        """
        query = {
            "q": text,
            "regex": regex,
            "ignore_case": ignore_case,
            "stream": stream,
            "since": milliseconds(since),
            "until": milliseconds(until),
            "tag": calls.tag_words(tags),
            "process": process,
            "name": name,
            "order": order,
        }
        with closing(self._session.pages(lambda cursor: calls.search(query, cursor, on_incomplete))) as found:
            yield from found

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = (), *, limit: int = 1000) -> Rows:
        """Run a read-only SQL query. `parameters`: a sequence for `?`, a mapping for `:name`."""
        return Rows.from_json(self._session.call(calls.sql(query, parameters, limit)))

    # ---- projects

    def apply_project(
        self,
        name: str,
        processes: Mapping[str, Any],
        *,
        folder: str = "",
        only: Sequence[str] = (),
        force: bool = False,
        remove_orphans: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Declare the processes of a project. docs/http-api.md describes arguments and answer.

        Args:
            name: name of the project.
            processes: the declared processes by name, as the API has them.
            folder: folder in which they are declared; for people.
            only: names of those that are applied; empty: all.
            force: whether those that have not changed are replaced, too.
            remove_orphans: whether those that are declared no more are ended.
            dry_run: whether it is only told what would be done.
        """
        query = {"process": list(only), "force": force, "remove_orphans": remove_orphans, "dry_run": dry_run}
        return self._session.call(calls.apply_project(name, processes, folder, query))

    def project(self, name: str, *, wait: float = 0) -> dict[str, Any]:
        """Return a project, once nothing is left to wait for, or after `wait` seconds.

        Raises:
            NotFound: there is none.
        """
        return self._session.call(calls.project(name, wait))

    def projects(self) -> list[str]:
        """Return the names of all projects."""
        return self._session.call(calls.projects())

    def end_project(self, name: str, only: Sequence[str] = ()) -> None:
        """End a project, or some of its processes, in reverse order, and wait until they have ended.

        Raises:
            NotFound: there is none, or it declares no such process.
        """
        self._session.call(calls.end_project(name, only))

    # ---- the daemon

    def health(self) -> list[str]:
        """Return what an operator should decide, while the daemon can serve requests.

        Raises:
            Unavailable: it cannot; the sentence says why.
        """
        return list((self._session.call(calls.ask(Request("GET", "/health")))).get("warnings", []))

    def login_path(self) -> str:
        """Return path and query of a page of the daemon that logs one browser in, within a minute."""
        path: str = (self._session.call(calls.ask(Request("POST", "/login-codes"))))["path"]
        return path

    def info(self) -> Info:
        """Return version and counts of the daemon."""
        return Info.from_json(self._session.call(calls.ask(Request("GET", "/info"))))
