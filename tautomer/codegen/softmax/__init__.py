"""Algorithms for softmax beside the loops of its definition."""
