"""Terminals: their sessions, the readers of what they show, and the part of it that shows the screen."""
