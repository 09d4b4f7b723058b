"""One module a group of calls: from a checked request through calls of the core to a response."""
