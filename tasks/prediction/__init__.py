"""A trained model or an exported file at work on images; without torch where it can."""
