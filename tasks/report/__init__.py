"""Pages about runs: the report of one, the comparison of several, and what a model sees of its data."""
