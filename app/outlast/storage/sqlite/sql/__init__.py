"""Operators' SQL, which runs in a process of its own."""
