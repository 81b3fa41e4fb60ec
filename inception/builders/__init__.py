"""One fold over the architecture table for each framework."""
