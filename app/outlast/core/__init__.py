"""The core: starts, watches and ends processes, records their output, and recovers after a restart.

The storage is used through its contract, and the shim through the link. Inside the core, `manager` uses `managed`, that
uses `commands`, and so on down to `output`: see the contract "layers of the core" in pyproject.toml.
"""
