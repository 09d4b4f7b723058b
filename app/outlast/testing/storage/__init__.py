"""The storage conformance suite, and a storage that fails on command."""
