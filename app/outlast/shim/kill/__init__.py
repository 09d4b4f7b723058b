"""Signalling and killing processes and all that they started."""
