"""Processes as the shim holds them: buffers, frames, quotas, and how they are handed over."""
