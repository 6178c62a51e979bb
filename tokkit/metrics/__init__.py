"""What a reconstruction lost, each definition in its name."""
