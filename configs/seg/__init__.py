"""Segmentation experiments."""
