"""Linear maps as rewrites see them: who reads a value, and whether their weights may change."""
