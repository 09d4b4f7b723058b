"""Tools that tests and benchmarks share: a client for the HTTP API, and figures of the kernel about processes."""
