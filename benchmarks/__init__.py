"""Exports, counts and timings: what the numbers in the documentation come from."""
