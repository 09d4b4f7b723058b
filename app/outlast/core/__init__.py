"""What a process is: start, stop, capture, follow, recovery. Knows storage and shim by their contracts only."""
