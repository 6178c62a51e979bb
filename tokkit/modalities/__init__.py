"""Files to tensors and back, nothing learned."""
