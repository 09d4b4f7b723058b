"""Long lives: thousands of starts and ends, followers, restarts; and nothing that grows."""
