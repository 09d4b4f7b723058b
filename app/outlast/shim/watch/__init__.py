"""Events that the loop waits for: pipes to read, standard inputs to write, deadlines."""
