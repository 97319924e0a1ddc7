"""Other optimizers of ONNX files, behind one signature: read `source`, optimize, write `target`.

A tool that is not installed is left out. Each is used as its documentation says, at its strongest setting
that needs no knowledge of the model beyond its type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def _onnxruntime(source: Path, target: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _transformers_optimizer(model_type: str) -> Callable[[Path, Path], None]:
    def run(source: Path, target: Path) -> None:
        from onnxruntime.transformers import optimizer

        # opt_level 0: its own fusions only, without a session of the runtime. 0 heads: read from the graph.
        settings = {"model_type": model_type, "num_heads": 0, "hidden_size": 0, "opt_level": 0}
        optimizer.optimize_model(str(source), **settings).save_model_to_file(str(target))

    return run


def _onnxscript(source: Path, target: Path) -> None:
    import onnx_ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    model, _ = optimize_for_ort(onnx_ir.load(source))
    onnx_ir.save(model, target)


def _onnxslim(source: Path, target: Path) -> None:
    import onnx
    import onnxslim

    onnx.save(onnxslim.slim(str(source)), target)


def _onnxsim(source: Path, target: Path) -> None:
    import onnx
    import onnxsim

    model, _ = onnxsim.simplify(onnx.load(source))
    onnx.save(model, target)


@dataclass(frozen=True)
class Peer:
    """One tool.

    Attributes:
        package: what must be installed.
        imports: the modules that it needs, to time their import apart.
    """

    name: str
    package: str
    imports: tuple[str, ...]
    run: Callable[[Path, Path], None]

    @property
    def version(self) -> str:
        """The installed version, or "" when it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return ""


_TRANSFORMERS = ("onnx", "onnxruntime.transformers.optimizer")
PEERS = (
    Peer("onnxruntime", "onnxruntime", ("onnxruntime",), _onnxruntime),
    Peer("ort-transformers", "onnxruntime", _TRANSFORMERS, _transformers_optimizer("gpt2")),
    Peer("onnxscript", "onnxscript", ("onnx_ir", "onnxscript.rewriter.ort_fusions"), _onnxscript),
    Peer("onnxslim", "onnxslim", ("onnx", "onnxslim"), _onnxslim),
    Peer("onnxsim", "onnxsim", ("onnx", "onnxsim"), _onnxsim),
)

# What a fused operator of a peer's output stands for.
KINDS = {
    "norm": (
        *("LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization"),
        *("RMSNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"),
    ),
    "softmax": ("Softmax", "LogSoftmax"),
    "attention": ("Attention", "MultiHeadAttention", "GroupQueryAttention", "ScoreAttention"),
    "activation": ("Gelu", "Gelu(tanh)", "BiasGelu", "FastGelu", "QuickGelu", "Swish", "Relu", "Mish"),
}


def kinds(labels: Counter[str]) -> Counter[str]:
    """Operations by kind: norm, softmax, attention, activation."""
    return Counter({kind: sum(labels[op] for op in ops) for kind, ops in KINDS.items()})


def fused_kinds(path: Path) -> Counter[str]:
    """Operations by kind in what a tool wrote.

    A fused attention contains its softmax, and a fused product (FusedGemm) may contain an activation.
    """
    found = kinds(operators(path))
    found["softmax"] += found["attention"]
    for node in _nodes(path):
        inner = [attribute.s.decode() for attribute in node.attribute if attribute.name == "activation"]
        found["activation"] += sum(name in KINDS["activation"] for name in inner)
    return found


def operators(path: Path) -> Counter[str]:
    """The operators of a file, sub-graphs included."""
    return Counter(node.op_type for node in _nodes(path))


def _nodes(path: Path) -> Iterator[Any]:
    import onnx

    graphs = [onnx.load(path, load_external_data=False).graph]
    for graph in graphs:
        for node in graph.node:
            yield node
            graphs += [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
