"""Starting processes: the fork helper, the child before its exec, limits."""
