"""torch's files without torch: the ZIP of PyTorch 1.6 and later, and the pickles before it."""
