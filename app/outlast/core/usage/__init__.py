"""What processes take of the machine."""
