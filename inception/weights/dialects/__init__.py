"""Dialects: from a place in the table to a name in one family of files, and back."""
