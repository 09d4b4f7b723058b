"""Handlers, one module for each group of calls: a parsed request becomes calls of the core, and a response."""
