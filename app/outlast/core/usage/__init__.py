"""The processor time, memory and files that processes use."""
