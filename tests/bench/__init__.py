"""The benchmark and the demonstration keep working."""
