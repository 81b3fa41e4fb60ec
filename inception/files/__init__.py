"""Containers of tensors, each read without running anything of the file's; they know no network."""
