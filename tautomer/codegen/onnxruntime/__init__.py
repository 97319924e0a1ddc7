"""Libraries that onnxruntime loads: its interface, and the glue around kernels."""
