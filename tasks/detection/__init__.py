"""What detection adds: its metric and its pictures."""
