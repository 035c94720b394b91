"""Detection experiments."""
