"""Kernels in Triton: their files, what the compiler makes of them, how they are launched."""
