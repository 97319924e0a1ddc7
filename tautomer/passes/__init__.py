"""Equivalence-preserving rewrites: one file per rewrite, and the pipeline that orders them."""
