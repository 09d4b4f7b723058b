"""Managed processes: when they are started again, stopped and checked."""
