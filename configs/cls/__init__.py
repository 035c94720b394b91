"""Classification experiments."""
