"""Reading what is stored: output, events, search, waits, SQL."""
