"""How far generated pictures are from real ones, and each number's own name."""
