"""Coverage-guided fuzzing of what a worker makes of raw bytes: `make fuzz`."""
