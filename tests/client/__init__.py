"""The official client libraries, unmodified, against a real daemon."""
