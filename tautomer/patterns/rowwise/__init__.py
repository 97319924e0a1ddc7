"""Programs over rows that no definition names: their operator, and reading it back."""
