"""A whole network to look into."""
