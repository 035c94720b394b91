"""The layouts that data sets come in."""
