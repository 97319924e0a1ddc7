"""Real architectures through torch's exporters."""
