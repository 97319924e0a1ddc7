"""Torch's pre-dispatch ATen graphs, read into ONNX's vocabulary and written back."""
