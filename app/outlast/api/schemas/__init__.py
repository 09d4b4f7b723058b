"""What the calls accept, and what they answer with."""
