"""Metrics: the families and their samples, and the two formats in which Prometheus reads them."""
