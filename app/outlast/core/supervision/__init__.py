"""The live processes, the link to the shim, and recovery of both."""
