"""A model on OpenVINO's CPU plugin, on one thread and in float32, called as a session of onnxruntime is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


class OpenVinoSession:
    """One compiled model with one request.

    Args:
        path: an ONNX file.

    Raises:
        ModuleNotFoundError: OpenVINO is not installed.
    """

    def __init__(self, path: Path) -> None:
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._tensor = openvino.Tensor
        self._request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def bound(self, inputs: Mapping[str, np.ndarray]) -> Callable[[], Any]:
        """A call with inputs that are set once; its outputs stay where they are."""
        for name, value in inputs.items():
            self._request.set_tensor(name, self._tensor(np.ascontiguousarray(value)))
        return self._request.infer

    def run(self, _: None, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """All outputs."""
        self.bound(inputs)()
        return [np.array(tensor.data) for tensor in self._request.output_tensors]
