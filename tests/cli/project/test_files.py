"""The files of a project: what they mean, and which line of them is wrong."""

import os
from pathlib import Path
from typing import Any

import pytest

from outlast.cli.connect import Failure
from outlast.cli.project.declared import DeclaredProject
from outlast.cli.project.finding import find_file, read_project

PC = "process-compose.yaml"


WEB = """
version: "0.5"
log_level: debug
environment: ["A=all", "B=all"]
processes:
  web:
    command: "echo $A ${HERE} $$HOME ${NONE} ${NONE:-default}"
    working_dir: sub
    env_file: web.env
    environment: [B=own, 'HERE_TOO=${HERE}']
    availability: {restart: on_failure, backoff_seconds: 3, max_restarts: 4}
    shutdown: {signal: 2, timeout_seconds: 7}
    readiness_probe:
      http_get: {host: 127.0.0.1, port: "8000", path: ready}
      initial_delay_seconds: 2
    namespace: front
    description: The web
    success_exit_codes: [3]
    is_tty: true
    user: www-data
    limits: {memory_bytes: 1000000}
    nice: 5
    tags: {team: a}
    keep: {bytes: 1000}
    stdin: pipe
    timeout: 2h
"""


def project(folder: Path, text: str, name: str = PC, **others: str) -> DeclaredProject:
    """Write files, and read the project. `others`: more files, with `__` for a dot."""
    (folder / name).write_bytes(text.encode())
    for other, content in others.items():
        (folder / other.replace("__", ".")).write_text(content)
    return read_project(folder / name, None)


def start(folder: Path, text: str, **others: str) -> dict[str, Any]:
    """Return the start of the only process."""
    (process,) = project(folder, text, **others).processes.values()
    return process.start


def test_a_process_of_process_compose(tmp_path: Path) -> None:
    found = project(tmp_path, WEB, web__env="C='$A'\nexport D=\"$HERE x\"\n", __env="HERE=here\n")
    declared = found.processes["web"]
    assert declared.line == 7
    assert declared.start == {
        "command": "sh",
        "args": ["-c", "echo $A here $HOME ${NONE} default"],
        "working_dir": str(tmp_path / "sub"),
        "env": {
            "PATH": os.environ["PATH"],
            "HERE": "here",
            "PC_PROC_NAME": "web",
            "PC_REPLICA_NUM": "0",
            "A": "all",
            "B": "own",
            "C": "$A",
            "D": "here x",
            "HERE_TOO": "here",
        },
        "restart": {"policy": "on_failure", "delay_ms": 3000, "max_restarts": 4},
        "stop_signal": 2,
        "stop_grace_ms": 7000,
        "health_check": {
            "type": "http",
            "port": 8000,
            "path": "/ready",
            "initial_delay_ms": 2000,
            "interval_ms": 10_000,
            "timeout_ms": 1000,
            "failure_threshold": 3,
        },
        "success_exit_codes": [3],
        "tags": {"namespace": "front", "description": "The web", "team": "a"},
        "user": "www-data",
        "limits": {"memory_bytes": 1_000_000},
        "nice": 5,
        "keep": {"bytes": 1000},
        "stdin_mode": "pipe",
        "timeout": 7200,
    }
    assert [note.partition(" ")[0] for note in found.notes] == ["keys", "is_tty"]


def test_needs_replicas_and_kinds_of_restart(tmp_path: Path) -> None:
    text = """
processes:
  db: {command: "true", ready_log_line: ready, replicas: 2}
  web:
    entrypoint: [python3, -m, http.server]
    depends_on:
      db: {condition: process_log_ready}
      job: {condition: process_completed_successfully}
      plain: {}
    availability: {restart: no}
  job: {command: "true", disabled: true, availability: {restart: exit_on_failure}}
  plain: {command: "true", availability: {restart: "always", exit_on_end: true}}
"""
    found = project(tmp_path, text)
    assert list(found.processes) == ["db-0", "db-1", "web", "job", "plain"]
    assert found.processes["web"].needs == {
        "db-0": "log_ready",
        "db-1": "log_ready",
        "job": "completed_successfully",
        "plain": "started",
    }
    assert (found.processes["web"].start["command"], found.processes["web"].start["args"]) == (
        "python3",
        ["-m", "http.server"],
    )
    assert found.processes["db-1"].start["env"]["PC_REPLICA_NUM"] == "1"
    assert found.processes["db-1"].start["ready_log"] == "ready"
    assert [found.processes[name].start["restart"]["policy"] for name in ("web", "job", "plain")] == [
        "never",
        "never",
        "always",
    ]
    assert [name for name, process in found.processes.items() if process.ends_all] == ["job", "plain"]
    assert found.processes["job"].disabled


def test_a_probe_by_command(tmp_path: Path) -> None:
    text = (
        "processes: {a: {command: x, liveness_probe: {exec: {command: test -e f, working_dir: /}, period_seconds: 2}}}"
    )
    check = start(tmp_path, text)["health_check"]
    assert (check["type"], check["command"], check["args"][1:]) == (
        "exec",
        "sh",
        ['cd "$1" || exit; test -e f', "sh", "/"],
    )
    assert check["interval_ms"] == 2000


def test_an_override_is_laid_over(tmp_path: Path) -> None:
    below = "environment: [A=1]\nprocesses:\n  a: {command: one, environment: [B=1]}\n"
    above = "processes:\n  a: {command: two, environment: [C=1]}\n  b: {command: three}\n"
    found = project(tmp_path, below, **{"process-compose.override__yaml": above})
    assert found.processes["a"].start["args"] == ["-c", "two"]
    assert {"A": "1", "B": "1", "C": "1"}.items() <= found.processes["a"].start["env"].items()
    assert found.processes["b"].file == str(tmp_path / "process-compose.override.yaml")


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = "processes:\n  a: &a {command: one, nice: 3}\n  b: {<<: *a, command: two}\n"
    found = project(tmp_path, text)
    assert found.processes["b"].start["args"] == ["-c", "two"]
    assert found.processes["b"].start["nice"] == 3


def test_a_procfile_also_with_windows_line_ends(tmp_path: Path) -> None:
    text = "# comment\r\nweb: bin/server -p $PORT\r\n\r\nworker_1:  bin/work --now \r\n"
    found = project(tmp_path, text, "Procfile", __env="A=1\r\nPORT=6000\r\n")
    assert {name: process.start["args"][1] for name, process in found.processes.items()} == {
        "web": "bin/server -p $PORT",
        "worker_1": "bin/work --now",
    }
    assert [process.start["env"]["PORT"] for process in found.processes.values()] == ["6000", "6100"]
    assert found.processes["web"].start["env"]["A"] == "1"
    assert found.processes["web"].start["working_dir"] == str(tmp_path)


def test_names_of_projects(tmp_path: Path) -> None:
    folder = tmp_path / "my shop"
    folder.mkdir()
    assert project(folder, "a: b", "Procfile").name == "my-shop"
    assert project(folder, "name: other\nprocesses: {a: {command: b}}").name == "other"
    number = tmp_path / "12"
    number.mkdir()
    assert project(number, "a: b", "Procfile").name == "project-12"


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(8)
)


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("processes:\n  a:\n    comand: x\n", 3, "processes.a.comand is an unknown key; did you mean 'command'?"),
        ("proceses: {a: {command: x}}\n", 1, "proceses is an unknown key; did you mean 'processes'?"),
        ("version: 1\nprocesses: [a]\n", 2, "processes must be a mapping"),
        ("processes:\n  a: {command: [x]}\n", 2, "processes.a.command must be a text"),
        ("processes:\n  a: {command: x, replicas: many}\n", 2, "processes.a.replicas must be a whole number from 1 on"),
        ("processes:\n  a: {command: x, disabled: 3}\n", 2, "processes.a.disabled must be true or false"),
        ("processes:\n  a: {command: x}\n  b: {command: x}\n  a: {command: y}\n", 4, "is given twice, first in line 2"),
        ("processes:\n  a:\n    command: x\n    depends_on: {b: {}}\n", 4, "a depends on 'b', which is not declared"),
        (
            "processes:\n  web:\n    command: x\n  b:\n    command: x\n    depends_on: {wbe: {}}\n",
            6,
            "did you mean 'web'?",
        ),
        (
            """processes:\n  a:\n    command: x\n    depends_on:\n      b: {}
  b:\n    command: x\n    depends_on: {a: {}}\n""",
            5,
            "in a circle: a -> b -> a",
        ),
        ("processes:\n  a: {command: x, depends_on: {a: {}}}\n", 2, "is the process itself"),
        (
            "processes:\n  a: {command: x}\n  b:\n    command: x\n    depends_on: {a: {condition: process_healthy}}\n",
            5,
            "which has no readiness_probe",
        ),
        (
            "processes:\n  a:\n    command: x\n    depends_on: {b: {condition: process_helthy}}\n",
            4,
            "did you mean 'process_healthy'?",
        ),
        ("processes:\n  a:\n    command: x\n    env_file: no.env\n", 4, "which is not a file"),
        ("processes:\n  a:\n    command: x\n    environment: [A]\n", 4, "is not KEY=VALUE"),
        ("processes:\n  a: {command: x\n", 3, "it is not YAML"),
        ("processes:\n  a:\n\tcommand: x\n", 3, "it is not YAML"),
        ("", None, "it is empty"),
        ("processes: {}\n", 1, "declares no process"),
        ("processes:\n  a: {nice: 3}\n", 2, "has no command"),
        ("processes:\n  a: {command: x, schedule: {}}\n", 2, "is not supported yet"),
        (f"{BOMB}processes: {{}}\n", None, "too many values"),
        ("processes: &a\n  b: *a\n", None, "too many values, or is nested too deeply"),
        ("processes: {a: {command: !!python/object:os.system x}}\n--- 1\n", 2, "it is not YAML"),
        ("processes:\n  a: {command: x, readiness_probe: {}}\n", 2, "must have either exec or http_get"),
        (
            "processes:\n  a:\n    command: x\n    readiness_probe: {http_get: {host: far, port: 1}}\n",
            4,
            "must be this machine",
        ),
        ("processes:\n  a: {command: x, availability: {restart: alway}}\n", 2, "did you mean 'always'?"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path: Path, text: str, line: int | None, sentence: str) -> None:
    with pytest.raises(Failure) as raised:
        project(tmp_path, text)
    message = raised.value.message
    assert raised.value.exit_code == 2
    assert message.startswith(f"{tmp_path}/{PC}, line {line}: " if line else f"{tmp_path}/{PC}"), message
    assert sentence in message


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("web: x\nno command\n", 2, "is not `name: command`"),
        ("web: x\n\nweb: y\n", 3, "'web' is declared twice, first in line 1"),
        ("12: x\n", 1, "is a number"),
        ("# nothing\n", None, "it declares no process"),
    ],
)
def test_what_is_wrong_in_a_procfile(tmp_path: Path, text: str, line: int | None, sentence: str) -> None:
    with pytest.raises(Failure) as raised:
        project(tmp_path, text, "Procfile")
    assert raised.value.message.startswith(f"{tmp_path}/Procfile, line {line}: " if line else f"{tmp_path}/Procfile: ")
    assert sentence in raised.value.message


def test_what_is_wrong_in_an_environment_file(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"\.env, line 2: 'B' has no value|\.env, line 2: B has no value"):
        project(tmp_path, "a: b", "Procfile", __env="A=1\nB\n")
    with pytest.raises(Failure, match=r"\.env, line 2: .* is not KEY=VALUE"):
        project(tmp_path, "a: b", "Procfile", __env="A=1\n= x y\n")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_bytes(b"a: b\nc: \xff\n")
    with pytest.raises(Failure, match="line 2: it is not UTF-8"):
        read_project(tmp_path / "Procfile", None)
    with pytest.raises(Failure, match="it cannot be read: No such file"):
        read_project(tmp_path / "none.yaml", None)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "Procfile"
    path.write_text("a: b\n")
    seen = os.fstat

    def change(fd: int) -> os.stat_result:
        found = seen(fd)
        path.write_text("a: bc\n")
        return found

    monkeypatch.setattr(os, "fstat", change)
    with pytest.raises(Failure, match="it was changed while it was read"):
        read_project(path, None)


def test_files_are_found_upwards_and_containers_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    (tmp_path / "Procfile").write_text("a: b")
    assert find_file(None) == tmp_path / "Procfile"
    (tmp_path / PC).write_text("")
    assert find_file(None) == tmp_path / PC
    (tmp_path / "a" / "outlast.yaml").write_text("")
    assert find_file(None) == tmp_path / "a" / "outlast.yaml"
    with pytest.raises(Failure, match="mean containers"):
        read_project(tmp_path / "compose.yaml", None)
