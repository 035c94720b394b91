"""A model over HTTP: a page to try it on, and an API."""
