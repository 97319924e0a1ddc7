"""Kernels in onnxruntime: which are chosen, built, checked and registered."""
