"""Ids of the events of followed streams."""

EOF_SUFFIX = "-eof"
"""End of the id of an `eof`. A client that sends such an id has seen the end, not only the last line."""
