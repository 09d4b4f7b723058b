"""Commands of clients: start, write to standard input, kill, purge, shutdown."""
