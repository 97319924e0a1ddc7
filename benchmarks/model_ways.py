"""Models of real width, and the ways to make and run them under onnxruntime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tautomer
from benchmarks.builders import ALONE, ENDS, TEXT, built
from benchmarks.exports import silence
from benchmarks.family import VOCABULARY, Family, Input
from benchmarks.openvino_session import OpenVinoSession
from benchmarks.peers import PEERS
from benchmarks.rowwise_models import EvoNormBlock, SoftmaxHead, polynorm_llama
from benchmarks.timing import bound, load
from tautomer.graph.reader import read_model
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.runtime.onnxruntime.kernels import library_for

LAYERS, WIDTH, OPSET = 4, 768, 20
HEAD, HEAD_VOCABULARY = 256, 131072
OURS, STOCK, OPENVINO = "ours, kernels", "onnxruntime", "openvino"
BOTH = (OURS, "ours, onnxruntime")

_PIXELS = (Input("pixel_values", "values", ("batch", 3, 224, 224)),)
_HIDDEN = (Input("hidden", "values", ("batch", "sequence", HEAD)),)
_IMAGE = (Input("image", "values", ("batch", 256, 56, 56)),)
_BODY = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": WIDTH // 64}
_READER = {"vocab_size": VOCABULARY, "max_position_embeddings": 512}
_WIDE = {**_BODY, "intermediate_size": 4 * WIDTH}
_GPT2 = {"n_layer": LAYERS, "n_embd": WIDTH, "n_head": WIDTH // 64, "vocab_size": VOCABULARY}
_LLAMA = {**_BODY, **_READER, **ALONE, "intermediate_size": 2048, "num_key_value_heads": WIDTH // 64}
MODELS = (
    Family("gpt2", built("GPT2LMHeadModel", "GPT2Config", **_GPT2, **ENDS, **ALONE), TEXT, "logits", {}),
    Family("vit", built("ViTForImageClassification", "ViTConfig", **_WIDE), _PIXELS, "logits", {}),
    Family("bert", built("BertModel", "BertConfig", **_READER, **_WIDE), TEXT, "last_hidden_state", {}),
    Family("llama", built("LlamaForCausalLM", "LlamaConfig", **_LLAMA), TEXT, "logits", {}),
    Family("softmax head", lambda _: SoftmaxHead(HEAD, HEAD_VOCABULARY), _HIDDEN, "result", {}),
    Family("polynorm", lambda kind: polynorm_llama(kind, 4 * WIDTH, **_LLAMA), TEXT, "logits", {}),
    Family("evonorm", lambda _: EvoNormBlock(), _IMAGE, "result", {}),
)


def exported(family: Family, folder: Path) -> Path:
    """The model as torch's dynamo exporter writes it; made once."""
    path = folder / f"{family.name.replace(' ', '-')}-{LAYERS}x{WIDTH}-dynamo{OPSET}.onnx"
    if not path.exists():
        part = path.with_suffix(".part")
        example = tuple(map(torch.from_numpy, family.sample({"batch": 2, "sequence": 8}, seed=0).values()))
        names = [item.name for item in family.inputs]
        shapes = tuple(item.axes for item in family.inputs)
        with silence(), torch.no_grad():
            options: dict[str, Any] = {"input_names": names, "output_names": family.results}
            options |= {"dynamic_shapes": shapes, "external_data": False, "opset_version": OPSET}
            torch.onnx.export(family.module("sdpa"), example, part, dynamo=True, **options)
        part.replace(path)
    return path


def _same(source: Path, target: Path) -> str:
    target.hardlink_to(source)
    return ""


def _transformers(kind: str) -> Callable[[Path, Path], str]:
    def run(source: Path, target: Path) -> str:
        from onnxruntime.transformers import optimizer

        failure: Exception | None = None
        for taken in dict.fromkeys((kind, "bert")):  # the general fusions are those of BERT
            try:
                made = optimizer.optimize_model(str(source), taken, num_heads=0, hidden_size=0, opt_level=0)
                made.save_model_to_file(str(target))
            except Exception as error:
                failure = error
            else:
                return f"as {taken}"
        raise RuntimeError(str(failure))

    return run


def _slim(source: Path, target: Path) -> str:
    next(peer for peer in PEERS if peer.name == "onnxslim").run(source, target)
    return ""


def _ours(name: str) -> Callable[[Path, Path], str]:
    def run(source: Path, target: Path) -> str:
        done = tautomer.optimize(source, target=name, verify=False)  # outputs are compared before timing
        done.save(target)
        made = f"{sum(remark.kind == 'passed' for remark in done.remarks)} rewrites"
        if name != "kernels":
            return made
        model = read_model(target)
        native = library_for(model)
        ops = Counter(node.op_type for node in model.graph if node.domain == DOMAIN)
        loaded = "kernels" if isinstance(native, Path) else f"no kernels ({native.reason})"
        return f"{made}, {loaded} for {', '.join(f'{count} {op}' for op, count in ops.items()) or 'nothing'}"

    return run


def session_of(way: str, path: Path, profile: Path | None = None) -> Any:
    """A session with one thread; ours has the kernels, and OpenVINO's is its own."""
    if way == OPENVINO:
        return OpenVinoSession(path)
    if way != OURS:
        return load(path, profile=profile)
    options: dict[str, Any] = {"intra_op_num_threads": 1, "inter_op_num_threads": 1, "log_severity_level": 4}
    if profile is not None:
        options |= {"enable_profiling": True, "profile_file_prefix": str(profile)}
    return tautomer.session(path, **options)


def call_of(session: Any, inputs: Mapping[str, np.ndarray]) -> Callable[[], Any]:
    """A call of a session whose inputs and outputs were made once."""
    return session.bound(inputs) if isinstance(session, OpenVinoSession) else bound(session, inputs)


def makers(family: str) -> dict[str, Callable[[Path, Path], str]]:
    """Way -> what writes the file to run, and returns what there is to say about it."""
    return {
        STOCK: _same,
        "ort-transformers": _transformers(family),
        "onnxslim": _slim,
        OPENVINO: _same,
        BOTH[1]: _ours("onnxruntime"),
        OURS: _ours("kernels"),
    }
