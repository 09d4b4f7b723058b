"""Terminals: sessions, their readers, and what a client must be sent to show the screen."""
