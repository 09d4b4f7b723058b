"""What is done between commits: compaction, compression, checkpoints, deletion."""
