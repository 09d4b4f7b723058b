"""Schemathesis makes requests from the OpenAPI document of a daemon, and checks each answer against it."""
