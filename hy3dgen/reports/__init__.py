"""What a run leaves behind: versioned JSON, and the same in words. Knows the stage records and nothing else."""
