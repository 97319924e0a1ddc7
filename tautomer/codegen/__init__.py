"""Kernels as text, C++ and Triton: one file per kernel family."""
