"""join norms: a residual sum and its norm become one operator, which gives the sum too where it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import onnx_ir as ir
import pytest
from residual_models import LANGUAGE_MODEL, residual_model

import tautomer
from tautomer.graph.build import Builder
from tautomer.target import KERNELS, Target

WITH_SUM = "AddLayerNormalizationWithSum"


# regions of pointwise operations would take the joins with them
JOINING = replace(KERNELS, fuses_rowwise=False)


def ours(model: ir.Model) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph if node.domain == "tautomer"))


def reasons(result: tautomer.Result) -> list[str]:
    return [r.reason for r in result.remarks if (r.kind, r.rule) == ("missed", "join norms")]


def joined(body: str = LANGUAGE_MODEL, *, target: Target = JOINING, norm: str = "ln", **options: str):
    return tautomer.optimize(residual_model(body, **options), target=target, norm=norm)


def test_sums_that_the_stream_goes_on_with_are_second_results_and_others_are_gone() -> None:
    result = joined()
    # h0 has a table of positions added, which is no residual; nothing but the last norm reads h2
    assert ours(result.model) == {"LayerNormalization": 1, WITH_SUM: 1, "AddLayerNormalization": 1}
    assert result.verification["verdict"] == "EQUAL"
    (node,) = [node for node in result.model.graph if node.op_type == WITH_SUM]
    assert [value.name for value in node.outputs] == ["n1", "h1"]
    assert not {node.name for node in result.model.graph if node.op_type == "Add"} & {"h1", "h2"}


def test_a_sum_that_is_an_output_stays_one_under_its_name() -> None:
    result = joined(outputs="float[batch, 4, 7] logits, float[batch, 4, 6] h2")
    assert ours(result.model)[WITH_SUM] == 2
    assert [value.name for value in result.model.graph.outputs] == ["logits", "h2"]
    assert result.verification["verdict"] == "EQUAL"


def test_behind_centred_streams_the_sum_stays_so_that_its_mean_can_be_checked() -> None:
    result = joined(norm="rms")
    assert ours(result.model) == {"RMSNormalization": 1, "AddRMSNormalizationWithSum": 2}
    assert result.verification["verdict"] == "EQUAL"
    assert result.verification["centred"]["norms"] == 3


def test_functions_of_nodes_that_were_joined_are_not_in_the_file() -> None:
    named = {function.name for function in joined(norm="rms").model.functions.values()}
    assert named == {"RMSNormalization", "AddRMSNormalizationWithSum"}


def test_the_result_is_not_rewritten_again() -> None:
    assert not tautomer.optimize(joined().model, target=JOINING, norm="ln").changed


def test_bias_and_broadcast_are_no_residual_sums() -> None:
    body = """
        q3 = MatMul (x, w_square)
        h = Add (q3, c_out)
        n = LayerNormalization <axis = -1, epsilon = 0.001> (h, g0, b0)
        k = Add (x, row)
        y = LayerNormalization <axis = -1, epsilon = 0.001> (k, g1, b1)
    """
    result = joined(
        body,
        weights={"w_square": (6, 6), "c_out": (6,), "g0": (6,), "b0": (6,), "g1": (6,), "b1": (6,)},
        inputs="float[batch, 4, 6] x, float[1, 4, 6] row",
        outputs="float[batch, 4, 6] n, float[batch, 4, 6] y",
    )
    assert ours(result.model) == {"LayerNormalization": 2} and not reasons(result)


def test_a_reader_in_a_branch_is_refused_and_said() -> None:
    body = """
        h = Add (x, r)
        n = LayerNormalization <axis = -1, epsilon = 0.001> (h, g0, b0)
        y = If (c) <then_branch = a () => (float[batch, 4, 6] p) { p = Neg (h) },
                    else_branch = b () => (float[batch, 4, 6] q) { q = Identity (n) }>
    """
    inputs = "float[batch, 4, 6] x, float[batch, 4, 6] r, bool c"
    result = joined(body, inputs=inputs, outputs="float[batch, 4, 6] y")
    assert ours(result.model) == {"LayerNormalization": 1}
    assert reasons(result) == ["the sum is computed or read in another graph than the norm"]


def test_a_target_without_such_kernels_keeps_sums_and_norms_apart() -> None:
    assert not ours(joined(target=tautomer.target.ONNXRUNTIME).model)


def _elsewhere(node: ir.Node) -> None:
    node.replace_input_with(1, node.inputs[0])


def _other_gain(node: ir.Node) -> None:
    node.replace_input_with(2, node.inputs[3])


def _other_epsilon(node: ir.Node) -> None:
    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.01)


MUTANTS: dict[str, Callable[[ir.Node], None]] = {
    "x added to itself": _elsewhere,
    "the bias for the gain": _other_gain,
    "another epsilon": _other_epsilon,
}


@pytest.mark.parametrize("name", [*MUTANTS, "results in the other order"])
def test_a_wrong_join_is_refused_by_its_own_evidence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Builder.several

    def spoiled(self: Builder, op_type: str, outputs: int, *inputs, **rest) -> list[ir.Value]:
        made = original(self, op_type, outputs, *inputs, **rest)
        if op_type.startswith("Add") and rest.get("domain") == "tautomer":
            if name not in MUTANTS:
                return made[::-1]
            MUTANTS[name](self.nodes[-1])
        return made

    monkeypatch.setattr(Builder, "several", spoiled)
    result = joined(outputs="float[batch, 4, 7] logits, float[batch, 4, 6] h2")
    assert ours(result.model) == {"LayerNormalization": 3}
    assert len(reasons(result)) == 2 and all("exact arithmetic" in reason for reason in reasons(result))
