"""Reading: follow output and events, search, wait, SQL."""
