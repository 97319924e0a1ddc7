"""Kernels written by hand, models that use them, and sessions of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray

from tautomer.codegen.onnxruntime.library import OrtKernel

ARGUMENTS = (
    "(const void* const* in, void* const* out, const double* p, int64_t first, int64_t last, int64_t n)"
)

_SCALE = """
extern "C" void {symbol}{arguments} {{
  const {type}* x = (const {type}*)in[0];
  {type}* y = ({type}*)out[0];
  for (int64_t i = first; i < last; ++i) y[i] = {type}(x[i] * p[0]);
}}
"""

_RMS = """
#include <cmath>
extern "C" void rms{arguments} {{
  const float* scale = (const float*)in[1];
  for (int64_t row = first; row < last; ++row) {{
    const float* x = (const float*)in[0] + row * n;
    float* y = (float*)out[0] + row * n;
    float lanes[16] = {{}}, sum = 0;
    for (int64_t i = 0; i < n; ++i) lanes[i % 16] += x[i] * x[i];
    for (float lane : lanes) sum += lane;
    const float factor = 1 / std::sqrt(sum / n + float(p[0]));
    for (int64_t i = 0; i < n; ++i) y[i] = x[i] * factor * scale[i];
  }}
}}
"""

_GATE = """
extern "C" void {symbol}{arguments} {{
  for (int64_t i = first; i < last; ++i)
    ((float*)out[0])[i] = {factor} * ((const float*)in[0])[i] * ((const float*)in[1])[i];
}}
"""


def scale(symbol: str, ctype: str, element_type: str) -> OrtKernel:
    """x * alpha."""
    text = _SCALE.format(type=ctype, symbol=symbol, arguments=ARGUMENTS)
    return OrtKernel("Scale", symbol, text, element_type, parameters=(("alpha", 2.0),))


def gate(symbol: str, factor: str, kind: str) -> OrtKernel:
    """factor * x * gate, where the attribute `kind` says so."""
    text = _GATE.format(symbol=symbol, factor=factor, arguments=ARGUMENTS)
    return OrtKernel("Gate", symbol, text, "FLOAT", ("gate",), kinds=("full",), attributes=(("kind", kind),))


def in_place() -> OrtKernel:
    """1 where the result lies in x's place, else 0."""
    text = """
    extern "C" void in_place{arguments} {{
      for (int64_t i = first; i < last; ++i) ((float*)out[0])[i] = in[0] == out[0];
    }}
    """
    return OrtKernel("InPlace", "in_place", text.format(arguments=ARGUMENTS), "FLOAT")


def rms() -> OrtKernel:
    """RMSNormalization."""
    text = _RMS.format(arguments=ARGUMENTS)
    return OrtKernel("RMSNormalization", "rms", text, "FLOAT", ("scale",), (("epsilon", 1e-5),), ("row",), 1)


KERNELS = (
    scale("scale_single", "float", "FLOAT"),
    scale("scale_half", "_Float16", "FLOAT16"),
    rms(),
    in_place(),
    gate("gate_once", "1", "once"),
    gate("gate_twice", "2", "twice"),
)

# The bodies compute something else on purpose: what a session gives tells which of the two ran.
BODIES = """
<domain: "tautomer", opset_import: ["" : 17]>
RMSNormalization <epsilon, axis> (x, scale) => (y) { a = Mul(x, scale) y = Sub(a, x) }
<domain: "tautomer", opset_import: ["" : 17]>
Scale <alpha> (x) => (y) { y = Neg(x) }
"""


def model(graph: str, bodies: str = BODIES) -> onnx.ModelProto:
    """A model of a graph in ONNX's text form."""
    head = '<ir_version: 8, opset_import: ["" : 17, "tautomer" : 1]>\n'
    return onnx.parser.parse_model(head + graph + bodies)


def session(model: onnx.ModelProto, library: Path | None, **options: Any) -> Any:
    """A session with a library, or without."""
    import onnxruntime

    wanted = onnxruntime.SessionOptions()
    wanted.log_severity_level = 4
    for name, value in options.items():
        setattr(wanted, name, value)
    if library is not None:
        wanted.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(model.SerializeToString(), wanted, providers=["CPUExecutionProvider"])


def rms_of(x: NDArray[Any], scale: NDArray[Any], epsilon: float) -> NDArray[Any]:
    """The reference, in float64."""
    x = x.astype(np.float64)
    mean = (x * x).sum(-1, keepdims=True) / max(1, x.shape[-1])
    result: NDArray[Any] = x / np.sqrt(mean + epsilon) * scale
    return result
