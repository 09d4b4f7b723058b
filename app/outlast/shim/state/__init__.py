"""What the shim holds of each process."""
