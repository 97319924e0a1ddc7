"""The same definitions as Triton kernels."""
