"""The Python client library against real daemons, in both its forms."""
