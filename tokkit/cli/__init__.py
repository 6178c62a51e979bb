"""The tokkit command."""
