"""What a graph is: reading and writing ONNX, what operators mean, shapes, building nodes."""
