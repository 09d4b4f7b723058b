"""The environments of declared processes."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from outlast.core.commands.start_request import StartRequest
from outlast.core.managed.env_encryption import EnvEncryption
from outlast.core.manager import ProcessManager
from outlast.core.projects.entries import Declared
from outlast.core.projects.projects import Projects


class _Counted(EnvEncryption):
    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.encrypted: list[Mapping[str, str]] = []

    def encrypt(self, environment: Mapping[str, str]) -> str:
        self.encrypted.append(environment)
        return super().encrypt(environment)


class _Manager:
    def __init__(self, env_encryption: EnvEncryption) -> None:
        self.env_encryption = env_encryption


def test_environments_are_encrypted_as_those_of_other_processes(tmp_path: Path) -> None:
    """With an encryption of their own, projects could make another key in the moment in which the first one is made."""
    encryption = _Counted(tmp_path)
    projects = Projects(cast("ProcessManager", _Manager(encryption)), tmp_path)
    declared = Declared(start=StartRequest(command="true", env={"A": "b"}))
    entries = projects._make_entries("shop", {"web": declared})
    assert encryption.encrypted == [{"A": "b"}]
    assert encryption.decrypt(entries["web"].encrypted_env) == {"A": "b"}
