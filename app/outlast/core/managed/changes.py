"""A new specification of a managed process, which is looked at before anything is done."""

import asyncio
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from errno import EACCES, ENOENT, ENOTDIR
from pathlib import Path

from outlast.core.commands import users
from outlast.core.commands.spawn_errors import explain
from outlast.core.commands.start_request import StartRequest, make_environment, make_spec
from outlast.core.managed.env_encryption import EnvEncryption
from outlast.model.errors import EnvKeyLost, InvalidRequest
from outlast.model.process import ProcessSpec
from outlast.model.shortage import shortages_told
from outlast.wire.contract import Stage

_ANY_EXECUTE = 0o111


class Changes:
    """The specifications that replace others."""

    def __init__(self, env_encryption: EnvEncryption) -> None:
        self._env_encryption = env_encryption

    async def wanted(self, current: ProcessSpec, request: StartRequest) -> ProcessSpec:
        """Return what a request makes of a process: `current` itself if that is the same.

        Raises:
            InvalidRequest: the request has another name, or one that is not managed.
            SpawnFailed: the user, the folder or the program is not there, so that nothing could be started.
            OutOfResources: the system lacks something to find that out.
        """
        if request.name not in (None, current.name):
            raise InvalidRequest(f"name cannot be changed: leave it out, or give {current.name!r}")
        with shortages_told("look at the specification"):
            identity = await asyncio.to_thread(users.resolve, request.user)
            made = make_spec(request, identity)
            spec = replace(made, id=current.id, name=current.name, idempotency_key=current.idempotency_key)
            if not spec.is_managed:
                raise InvalidRequest("restart, health_check or ready_log is missing: the process would not be managed")
            if await asyncio.to_thread(self._is_same, current, spec, request.env):
                return current
            environment = make_environment(request.env, identity, spec.id)
            await asyncio.to_thread(_check_program, spec, environment.get("PATH", ""))
            if not request.env:
                return spec
            return replace(spec, encrypted_env=await asyncio.to_thread(self._env_encryption.encrypt, request.env))

    def _is_same(self, current: ProcessSpec, spec: ProcessSpec, env: Mapping[str, str]) -> bool:
        if replace(current, encrypted_env=None) != spec:
            return False
        try:
            return self._env_encryption.decrypt(current.encrypted_env) == dict(env)
        except EnvKeyLost:
            return False


def _check_program(spec: ProcessSpec, search_path: str) -> None:
    """Look for the folder and the program of a specification. What only the kernel can tell is left to it.

    Raises:
        SpawnFailed: one of them is not there, or nobody may execute the program.
    """
    try:
        is_folder = stat.S_ISDIR(os.stat(spec.working_dir).st_mode)  # noqa: PTH116 - a Path hides why it cannot be read
    except OSError as exc:
        raise explain(Stage.WORKING_DIR, exc.errno or ENOENT, spec) from None
    if not is_folder:
        raise explain(Stage.WORKING_DIR, ENOTDIR, spec)
    folders = [""] if "/" in spec.command else search_path.split(os.pathsep)
    found = [Path(spec.working_dir, folder, spec.command) for folder in folders]
    programs = [path for path in found if os.path.isfile(path)]  # noqa: PTH113 - False also where it may not look
    if not programs:
        raise explain(Stage.EXEC, ENOENT, spec)
    if not any(path.stat().st_mode & _ANY_EXECUTE for path in programs):
        raise explain(Stage.EXEC, EACCES, spec)
