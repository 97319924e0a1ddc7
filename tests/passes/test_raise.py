"""raise: applies where it gains, says why where it does not, and leaves everything else as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

import tautomer

DEMO = Path(__file__).parents[2] / "examples" / "models" / "llama_tiny.onnx"

LAYER_NORM = """<ir_version: 8, opset_import: ["" : {opset}]>
g (float[batch, 8] x, float[8] gain, float[8] bias) => ({outputs})
<float eps = {{1e-5}}, float two = {{2}}> {{
    m = ReduceMean <axes=[-1]> (x)
    c = Sub (x, m)
    s = Pow (c, two)
    v = ReduceMean <axes=[-1]> (s)
    e = Add ({add})
    r = Sqrt (e)
    n = Div (c, r)
    t = Mul (n, gain)
    y = Add (t, bias)
}}"""


def _layer_norm(opset: int = 17, outputs: str = "float[batch, 8] y", add: str = "v, eps") -> onnx.ModelProto:
    return parser.parse_model(LAYER_NORM.format(opset=opset, outputs=outputs, add=add))


def _ops(model: object) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph))


def test_a_spelled_norm_becomes_the_operator_and_nothing_of_it_is_left() -> None:
    result = tautomer.optimize(_layer_norm())
    assert _ops(result.model) == {"LayerNormalization": 1}
    assert not result.model.graph.initializers
    raised = [remark for remark in result.remarks if remark.rule == "raise"]
    assert [(remark.kind, remark.op) for remark in raised] == [("passed", "LayerNormalization")]
    assert result.verification["verdict"] == "EQUAL"
    assert [value.name for value in result.model.graph.outputs] == ["y"]


def test_below_the_operators_opset_the_spelling_that_the_runtime_fuses_is_kept() -> None:
    result = tautomer.optimize(_layer_norm(opset=14))
    assert not result.changed


def test_below_the_operators_opset_another_spelling_becomes_the_one_that_the_runtime_fuses() -> None:
    # onnxruntime reads epsilon from the second operand only, and takes 1e-5 for whatever stands first
    model = _layer_norm(opset=14, add="eps, v")
    result = tautomer.optimize(model)
    assert result.changed
    (add,) = [
        node
        for node in result.model.graph
        if node.op_type == "Add" and node.inputs[1].const_value is not None
    ]
    assert float(add.inputs[1].const_value.numpy()) == np.float32(1e-5)
    assert not tautomer.optimize(result.model).changed


def test_a_value_read_elsewhere_stays() -> None:
    result = tautomer.optimize(_layer_norm(outputs="float[batch, 8] y, float[batch, 1] v"))
    assert result.changed
    assert {"LayerNormalization", "ReduceMean", "Sub", "Pow"} == set(_ops(result.model))


def test_when_all_of_it_is_read_elsewhere_nothing_is_gained_and_the_reader_is_named() -> None:
    inner = ", ".join(f"float[batch, 8] {name}" for name in "csnt") + ", float[batch, 1] r"
    result = tautomer.optimize(_layer_norm(outputs=f"float[batch, 8] y, {inner}"))
    assert not result.changed
    reasons = [remark.reason for remark in result.remarks if remark.rule == "raise"]
    assert [reason for reason in reasons if "read elsewhere" in reason], reasons


def test_target_onnx_writes_operators_of_ours_with_their_bodies() -> None:
    result = tautomer.optimize(_layer_norm(opset=15), target="onnx")
    assert _ops(result.model) == {"LayerNormalization": 1}
    assert [function.name for function in result.model.functions.values()] == ["LayerNormalization"]
    assert result.model.opset_imports["tautomer"] == 1
    assert result.verification["verdict"] == "EQUAL"


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for file in files:
        tautomer.optimize(DEMO).save(file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_optimizing_the_result_again_changes_nothing(tmp_path: Path) -> None:
    tautomer.optimize(DEMO).save(tmp_path / "once.onnx")
    again = tautomer.optimize(tmp_path / "once.onnx")
    assert not again.changed
    again.save(tmp_path / "twice.onnx")
    assert (tmp_path / "once.onnx").read_bytes() == (tmp_path / "twice.onnx").read_bytes()


def test_a_given_model_is_left_as_it_was() -> None:
    model = _layer_norm()
    before = model.SerializeToString()
    tautomer.optimize(model)
    tautomer.explain(model)
    assert model.SerializeToString() == before


def test_a_wrong_rewrite_is_caught_and_nothing_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    from tautomer import api
    from tautomer.errors import CheckFailedError

    def spoil(model, *rest):
        remarks = original(model, *rest)
        for node in model.graph:
            if node.op_type == "LayerNormalization":
                node.attributes["epsilon"] = tautomer_attr(0.1)
        return remarks

    import onnx_ir as ir

    original = api.rewrite
    tautomer_attr = lambda value: ir.AttrFloat32("epsilon", value)  # noqa: E731
    monkeypatch.setattr(api, "rewrite", spoil)
    with pytest.raises(CheckFailedError, match="is different: algebra"):
        api.optimize(_layer_norm())


def test_nodes_that_no_rewrite_touched_are_written_as_they_were_read(tmp_path: Path) -> None:
    source = onnx.load(DEMO)
    result = tautomer.optimize(DEMO)
    result.save(tmp_path / "out.onnx")
    written = {tuple(node.output): node for node in onnx.load(tmp_path / "out.onnx").graph.node}
    replaced = {
        name for remark in tautomer.inspect(DEMO) if remark.op == "RMSNormalization" for name in remark.nodes
    }
    joins = {found.name for found in written.values() if found.op_type == "Sum"}
    untouched = 0
    for node in source.graph.node:
        if node.name in replaced | joins:
            continue
        found = written[tuple(node.output)]
        assert (found.op_type, found.name, list(found.input)) == (node.op_type, node.name, list(node.input))
        assert {a.name: a.SerializeToString() for a in found.attribute} == {
            a.name: a.SerializeToString() for a in node.attribute
        }
        untouched += 1
    assert untouched > 100
    assert result.verification["verdict"] == "EQUAL"


# as torch exports nn.GroupNorm: groups become channels of an InstanceNormalization whose scales are 1
GROUP_NORM = """<ir_version: 8, opset_import: ["" : 18]>
g (float[2, 4, 3, 3] x) => (float[2, 4, 3, 3] y) <int64[3] groups = {0, 2, -1}, int64[4] back = {2, 4, 3, 3},
    float[2] ones = {1, 1}, float[2] zeros = {0, 0},
    float[4, 1, 1] gain = {1.5, 2, 3, 4}, float[4, 1, 1] bias = {1, 2, 3, 4}> {
    r = Reshape (x, groups)
    i = InstanceNormalization <epsilon = 1e-5> (r, ones, zeros)
    b = Reshape (i, back)
    m = Mul (b, gain)
    a = Add (m, bias)
    s = Sigmoid (a)
    y = Mul (a, s)
}"""


@pytest.mark.parametrize("target", ["native", "kernels", "onnx"])
def test_a_norm_that_is_kept_anyway_says_nothing_of_its_numbers(target: str) -> None:
    remarks = tautomer.explain(parser.parse_model(GROUP_NORM), target=target)
    kept = [one.reason for one in remarks if one.op == "GroupNormalization" and one.kind == "missed"]
    assert len(kept) == 1 and "throughout" not in kept[0]
    assert any(one.op == "Rowwise" and one.kind == "passed" for one in remarks) == (target == "kernels")
