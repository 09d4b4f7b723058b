"""From frames of the shim to committed chunks."""
