"""What callers ask for: start, write to stdin, signal, kill, purge, shut down."""
