"""Experiments with several heads."""
