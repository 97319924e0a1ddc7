"""The zoo itself: its models are valid, its spellings are what they say, its near misses are not."""

from collections.abc import Iterable

import numpy as np
import onnx
import pytest

from . import NEAR_MISSES, SPELLINGS
from .case import NearMiss, Spelling
from .evaluate import feeds, run_float64, run_onnxruntime
from .rivals import FITS, closest

SEEDS = range(4)

every_case = pytest.mark.parametrize("case", [*SPELLINGS, *NEAR_MISSES], ids=lambda case: case.name)
every_spelling = pytest.mark.parametrize("case", SPELLINGS, ids=lambda case: case.name)


def is_half(model: onnx.ModelProto) -> bool:
    return any(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16 for value in model.graph.input)


def is_static(case: Spelling) -> bool:
    """Whether the operation has no parameter that an input gives, and its result is in the main graph."""
    graph = case.model().graph
    return case.results()[0] in {name for node in graph.node for name in node.output} and not any(
        value.name in {"gamma", "beta"} for value in graph.input
    )


def result_name(case: Spelling, model: onnx.ModelProto) -> str:
    """The operation's result; where it lies inside a branch, the value that leaves the branch."""
    name = case.results()[0]
    outer = {output for node in model.graph.node for output in node.output}
    return name if name in outer else model.graph.output[0].name


def with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy whose only output is the value called `name`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = onnx.shape_inference.infer_shapes(model).graph
    value = next(value for value in (*known.output, *known.value_info) if value.name == name)
    del copy.graph.output[:]
    copy.graph.output.append(value)
    return copy


def test_names_are_unique() -> None:
    names = [case.name for case in (*SPELLINGS, *NEAR_MISSES)]
    assert len(set(names)) == len(names)


def test_there_are_enough() -> None:
    assert len(SPELLINGS) >= 150
    assert len(NEAR_MISSES) >= 90


@every_case
def test_model_is_valid_and_loads(case: Spelling | NearMiss) -> None:
    model = case.model()
    onnx.checker.check_model(model, full_check=True)
    if isinstance(case, Spelling) or case.loads:
        run_onnxruntime(model, feeds(model, 0))


@every_spelling
def test_spelling_computes_its_operation_in_float32(case: Spelling) -> None:
    model = case.model()
    name = result_name(case, model)
    tolerance = 4e-3 if is_half(model) else 2e-5
    for seed in SEEDS:
        fed = feeds(model, seed)
        got = run_onnxruntime(with_output(model, name), fed)[name]
        want = case.wanted({key: value.astype(float) for key, value in fed.items()})
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@every_spelling
def test_spelling_computes_its_operation_in_float64(case: Spelling) -> None:
    """Rows of many scales and offsets, but for scores, which would saturate.

    The tolerance is that of the model's own constants, which are float32 numbers.
    """
    model = case.model()
    name = result_name(case, model)
    for seed in SEEDS:
        fed = feeds(model, seed, wild=case.op != "ScoreAttention")
        got = run_float64(model, fed, halves=True)[name]
        want = case.wanted({key: value.astype(float) for key, value in fed.items()})
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=5e-6)


def as_mask(value: np.ndarray) -> np.ndarray:
    return np.where(value, 0.0, -1e30) if value.dtype == bool else value


def sampled(model: onnx.ModelProto, *, halves: bool) -> dict[str, np.ndarray]:
    """The float64 values that depend on inputs, each with a leading axis of samples.

    Boolean inputs become the masks that can be added to scores.
    """
    runs = [run_float64(model, feeds(model, seed, wild=True), halves=halves) for seed in SEEDS]
    for run in runs:
        run.update({value.name: as_mask(run[value.name]) for value in model.graph.input})
    fixed = {tensor.name for tensor in model.graph.initializer}
    return {
        name: np.stack([run[name] for run in runs])
        for name, value in runs[0].items()
        if name not in fixed and value.dtype == np.float64
    }


def sources_of(model: onnx.ModelProto, values: Iterable[str]) -> dict[str, list[str]]:
    """For each computed value, the values that it depends on."""
    before: dict[str, set[str]] = {}
    for node in model.graph.node:
        above = set(node.input).union(*(before.get(name, set()) for name in node.input))
        before.update(dict.fromkeys(node.output, above))
    return {name: [other for other in values if other in before[name]] for name in values if name in before}


@pytest.mark.parametrize(
    "case",
    [case for case in NEAR_MISSES if case.differs and case.looks_like in (*FITS, "ScoreAttention")],
    ids=lambda case: case.name,
)
def test_near_miss_differs_whatever_the_parameters(case: NearMiss) -> None:
    """Every value is held against all before it; an anchor only against the inputs, as is an attention."""
    model = case.model()
    values = sampled(model, halves=False)
    sources = sources_of(model, values)
    if case.anchor or case.looks_like == "ScoreAttention":
        inputs = [value.name for value in model.graph.input if value.name in values]
        sources = {name: inputs for name in sources if case.anchor in (None, name)}
    assert closest(case.looks_like, values, sources) > 1e-7


@pytest.mark.parametrize(
    "case", [case for case in SPELLINGS if case.op in FITS and is_static(case)], ids=lambda case: case.name
)
def test_a_spelling_is_within_reach_of_the_same_parameters(case: Spelling) -> None:
    """So that the test above means something."""
    model = case.model()
    values, name = sampled(model, halves=True), case.results()[0]
    assert closest(case.op, values, {name: sources_of(model, values)[name]}) < 1e-3
