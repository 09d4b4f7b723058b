"""From the shim's frames to committed chunks."""
