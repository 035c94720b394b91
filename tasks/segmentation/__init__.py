"""What semantic segmentation adds: its metrics and its pictures."""
