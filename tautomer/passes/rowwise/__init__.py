"""Regions that one pass over rows computes: what may stand in one, and the function that it becomes."""
