"""Slices, stacks and rows of tensors, followed through what does not mix them."""
