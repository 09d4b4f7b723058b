"""The storage conformance suite, a state machine, and a storage that fails on command."""
