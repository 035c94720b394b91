"""Medical experiments."""
