"""Managed processes: restart policy, health checks, and their names."""
