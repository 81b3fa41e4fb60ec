"""Metrics of generated images (protocols so far)."""
