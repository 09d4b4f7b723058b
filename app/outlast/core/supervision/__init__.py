"""The live processes, the link to the shim, and the recovery of both."""
