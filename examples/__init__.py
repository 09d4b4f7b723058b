"""Programs that show what Outlast does. They need what `make serve` installs, and nothing else."""
