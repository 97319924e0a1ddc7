"""Attention: its score functions, its form as plain data, its operator, and how it is recognised."""
