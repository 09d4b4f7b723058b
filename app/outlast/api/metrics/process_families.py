"""Series of live processes with a name. A thousand processes have 13,000 of them, so each line is made in one go."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from outlast.api.metrics import families
from outlast.api.metrics.exposition import Exposition, Family, escape
from outlast.core.metrics import NamedProcessFigures
from outlast.model.tag_label import tag_label

MOST_PROCESSES = 1000
"""Maximum number of processes that have series: those that were started first."""


@dataclass(slots=True)
class _Lines:
    """The lines of each family."""

    up: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    cpu: list[str] = field(default_factory=list)
    memory: list[str] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)

    def by_family(self) -> list[tuple[Family, list[str]]]:
        """Return each family with its lines."""
        return [
            (families.UP, self.up),
            (families.STARTED, self.started),
            (families.OWN_RUNS, self.runs),
            (families.HEALTHY, self.health),
            (families.OWN_CPU, self.cpu),
            (families.OWN_MEMORY, self.memory),
            (families.OWN_THREADS, self.threads),
            (families.OWN_FDS, self.files),
            (families.OWN_OUTPUT, self.output),
            (families.LAST_OUTPUT, self.printed),
            (families.LAST_EXIT, self.exits),
        ]


def add_processes(exposition: Exposition, processes: Iterable[NamedProcessFigures], tags: tuple[str, ...]) -> None:
    """Add the series of processes. `tags`: the tags that become labels."""
    told, dropped = _Lines(), _Lines()
    tag_labels = [(tag, tag_label(tag)) for tag in tags]
    for number, process in enumerate(processes):
        names = f'name="{escape(process.name)}"'
        if tag_labels:
            names += _tags(process.tags, tag_labels)
        _add_process(told if number < MOST_PROCESSES else dropped, process, names)
    for family, lines in told.by_family():
        exposition.add_lines(family, lines)
    exposition.add(families.DROPPED_SERIES, sum(len(lines) for _, lines in dropped.by_family()))


def _tags(given: Mapping[str, str], tag_labels: Sequence[tuple[str, str]]) -> str:
    """Return the labels of tags. To Prometheus, a label that is missing is the same as an empty one."""
    return "".join([f',{label}="{escape(given[tag])}"' for tag, label in tag_labels if tag in given])


def _add_process(lines: _Lines, process: NamedProcessFigures, names: str) -> None:
    _, _, is_up, started_at_ms, runs, is_healthy, usage, output_bytes, last_output_ms, last_exit = process
    own = f"{{{names}}}"
    lines.up.append(f"outlast_process_up{own} {is_up:d}")
    lines.runs.append(f"outlast_process_runs_total{own} {runs}")
    if started_at_ms is not None:
        lines.started.append(f"outlast_process_start_time_seconds{own} {started_at_ms / 1000}")
    if is_healthy is not None:
        lines.health.append(f"outlast_process_healthy{own} {is_healthy:d}")
    if usage is not None:
        lines.cpu.append(f'outlast_process_cpu_seconds_total{{{names},mode="user"}} {usage.cpu_user_ms / 1000}')
        lines.cpu.append(f'outlast_process_cpu_seconds_total{{{names},mode="system"}} {usage.cpu_system_ms / 1000}')
        lines.memory.append(f"outlast_process_resident_memory_bytes{own} {usage.rss_bytes}")
        lines.threads.append(f"outlast_process_threads{own} {usage.threads}")
        if usage.open_files is not None:
            lines.files.append(f"outlast_process_open_fds{own} {usage.open_files}")
    if output_bytes is not None:
        stdout, stderr = output_bytes
        lines.output.append(f'outlast_process_output_bytes_total{{{names},stream="stdout"}} {stdout}')
        lines.output.append(f'outlast_process_output_bytes_total{{{names},stream="stderr"}} {stderr}')
    if last_output_ms is not None:
        lines.printed.append(f"outlast_process_last_output_timestamp_seconds{own} {last_output_ms / 1000}")
    if last_exit is not None:
        lines.exits.append(f"outlast_process_last_exit_code{own} {last_exit}")
