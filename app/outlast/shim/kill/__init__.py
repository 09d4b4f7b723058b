"""Signalling and killing processes and their trees."""
