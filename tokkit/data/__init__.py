"""Many files to batches."""
