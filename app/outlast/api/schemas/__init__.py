"""Schemas of request bodies and query strings, by subject, and of the answers (`responses.py`)."""
