"""Maintenance between commits: compaction, compression, checkpoints, and reclamation of space."""
