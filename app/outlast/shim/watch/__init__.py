"""What the event loop watches: pipes to read, standard inputs to write, deadlines."""
