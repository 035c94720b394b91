"""Images changed on the way to a network, and their annotations with them."""
