"""Starting processes: the helper that forks, the child before its exec, its limits."""
