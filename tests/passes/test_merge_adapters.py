"""Adapters beside linear maps: merged in any spelling, each site verified; near misses stay and say why."""

from __future__ import annotations

from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from residual_models import residual_model

import tautomer
from tautomer.graph.build import Builder
from tautomer.passes.linear_maps.affine_maps import AffineMaps

IN, OUT, RANK = 12, 10, 3
WEIGHTS: dict[str, tuple[int, ...]] = {
    "w": (IN, OUT),
    "v": (OUT, IN),
    "c": (OUT,),
    "a": (IN, RANK),
    "b": (RANK, OUT),
    "lam": (RANK,),
    "a2": (IN, 2),
    "b2": (2, OUT),
    "d": (OUT,),
    "g": (OUT,),
    "u": (OUT, OUT),
    "s": (),
    "s2": (),
}
REPLACE = {"s": np.float32(2.0 / 3.0), "s2": np.float32(-1.25)}
BASE = "m = MatMul (x, w)\n y0 = Add (m, c)\n"
LORA = f"{BASE} h = MatMul (x, a)\n l = MatMul (h, b)\n k = Mul (l, s)\n y = Add (y0, k)"
DORA = f"""{BASE}
    r = Sub (y0, c)
    ab = MatMul (a, b)
    sab = Mul (ab, s)
    adapted = Add (w, sab)
    squares = Mul (adapted, adapted)
    power = ReduceSum <keepdims = 0> (squares, zero)
    n = Sqrt (power)
    scale = Div (g, n)
    less = Sub (scale, one)
    p = Mul (less, r)
    h = MatMul (x, a)
    l = MatMul (h, b)
    q = Mul (scale, l)
    k = Mul (q, s)
    more = Add (p, k)
    y = Add (y0, more)
"""
PLAIN = "m = MatMul (x, w)\n h = MatMul (x, a)\n l = MatMul (h, b)\n"
SPELLINGS = {
    "lora": LORA,
    "scale first": f"{BASE} z = Mul (x, s)\n h = MatMul (z, a)\n l = MatMul (h, b)\n y = Add (y0, l)",
    "scale between": f"{BASE} h = MatMul (x, a)\n z = Div (h, s)\n l = MatMul (z, b)\n y = Add (l, y0)",
    "taken off": LORA.replace("Add (y0, k)", "Sub (y0, k)"),
    "bias behind": f"{PLAIN} k = Add (m, l)\n y = Add (k, c)",
    "no bias": f"{PLAIN} y = Add (m, l)",
    "bias of its own": f"{PLAIN} k = Add (l, d)\n y = Add (m, k)",
    "two adapters": f"""{LORA.replace("y =", "y1 =")}
        h2 = MatMul (x, a2)
        l2 = MatMul (h2, b2)
        k2 = Mul (s2, l2)
        y = Add (y1, k2)""",
    "dora": DORA,
    "vera": f"""{BASE}
        h = MatMul (x, a)
        z = Mul (lam, h)
        l = MatMul (z, b)
        k = Mul (g, l)
        y = Add (y0, k)""",
    "rank in the graph": LORA.replace("Mul (l, s)", "Mul (l, sr)").replace(
        "h =", "q = Sqrt (rank)\n sr = Div (s, q)\n h ="
    ),
    "gemm": """
        f = Reshape (x, flat)
        m = Gemm <transB = 1> (f, v, c)
        h = MatMul (f, a)
        l = Gemm (h, b, d)
        k = Mul (l, s)
        y = Add (m, k)""",
}


def model(
    body: str, *, dtype: Any = np.float32, inputs: str = "float[batch, 4, 12] x", **options: Any
) -> ir.Model:
    replace = {
        **{name: array.astype(dtype) for name, array in REPLACE.items()},
        "flat": np.array([-1, IN], np.int64),
        "zero": np.array([0], np.int64),
        "one": np.array(1.0, dtype),
        "rank": np.array(RANK, dtype),
        **options.pop("replace", {}),
    }
    outputs = "float[rows, 10] y" if "flat" in body else "float[batch, 4, 10] y"
    weights = {**WEIGHTS, "flat": (2,), "zero": (1,), "one": (), "t": (4, 1), "wq": (IN, OUT), "rank": ()}
    weights = {name: shape for name, shape in weights.items() if f"{name} =" not in body.split("\n")[0]}
    return residual_model(
        body, weights=weights, inputs=inputs, outputs=options.pop("outputs", outputs), dtype=dtype,
        replace=replace, **options,
    )  # fmt: skip


def operators(result: Any) -> Counter[str]:
    return Counter(node.op_type for node in result.model.graph)


def missed(result: Any) -> list[str]:
    return [r.reason for r in result.remarks if (r.rule, r.kind) == ("merge adapters", "missed")]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_adapter_becomes_part_of_its_matrix(spelling: str) -> None:
    result = tautomer.optimize(model(SPELLINGS[spelling]))
    found = operators(result)
    bias = spelling not in ("no bias", "gemm")
    assert found["MatMul"] + found["Gemm"] == 1 and found["Add"] == bias, missed(result)
    assert found["Mul"] == found["Sub"] == found["Div"] == 0
    assert result.verification["verdict"] == "EQUAL"
    assert result.verification["legs"]["sites"]["rewrites"] == 1
    kept = [name for name in result.model.graph.initializers if name in ("a", "b", "a2", "b2", "s", "w", "v")]
    assert kept == []


def test_the_sum_is_rounded_once() -> None:
    result = tautomer.optimize(model(LORA))
    source = model(LORA)
    w, a, b = (source.graph.initializers[name].const_value.numpy().astype(np.float64) for name in "wab")
    merged = next(v for v in result.model.graph.initializers.values() if tuple(v.shape) == (IN, OUT))
    wanted = (w + np.float64(REPLACE["s"]) * (a @ b)).astype(np.float32)
    assert np.array_equal(merged.const_value.numpy(), wanted)


X, Y = "float[batch, 4, 12] x", "float[batch, 4, 10] y"
NEAR_MISSES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "an activation on x": (
        f"q = Tanh (x)\n{LORA.replace('MatMul (x, a)', 'MatMul (q, a)')}", "(node 'Tanh#q', Tanh)", {}
    ),
    "read by another": (LORA, "'h' is read by the model's caller", {"outputs": f"{Y}, float[batch, 4, 3] h"}),
    "seen by the caller": (LORA, "'l' is read by the model's caller", {"outputs": f"{Y}, float[b, 4, 10] l"}),
    "shared": (
        f"{LORA}\n z = MatMul (other, w)",
        "as it is, and would be stored twice",
        {"inputs": f"{X}, float[2, 12] other", "outputs": f"{Y}, float[2, 10] z"},
    ),
    "scaled as it runs": (
        LORA.replace("Mul (l, s)", "Mul (l, gate)"),
        "'gate' is computed when the model runs",
        {"inputs": f"{X}, float gate"},
    ),
    "quantized": (
        f"w = DequantizeLinear (wq, s)\n{LORA}",
        "is quantized",
        {"replace": {"wq": np.ones((IN, OUT), np.int8)}},
    ),
    "a token's own": (LORA.replace("Mul (l, s)", "Mul (l, t)"), "varies with the token", {}),
}  # fmt: skip


@pytest.mark.parametrize("miss", NEAR_MISSES)
def test_near_misses_stay_and_say_why(miss: str) -> None:
    body, said, options = NEAR_MISSES[miss]
    result = tautomer.optimize(model(body, **options), norm="ln")
    assert operators(result)["MatMul"] >= 3 and said in missed(result)[0]


WIDE = """
    m = MatMul (x, w)
    y0 = Cast <to = 1> (m)
    wide = Cast <to = 1> (x)
    h = MatMul (wide, a)
    l = MatMul (h, b)
    k = Add (y0, l)
    y = Cast <to = 10> (k)
"""


def mixed(body: str, kind: str = "float16") -> ir.Model:
    w = np.random.default_rng(3).standard_normal((IN, OUT)).astype(np.float16)
    return residual_model(
        body, weights={"a": (IN, RANK), "b": (RANK, OUT), "w": (IN, OUT)}, inputs="float16[2, 12] x",
        outputs=f"{kind}[2, 10] y", replace={"w": w},
    )  # fmt: skip


def test_an_adapter_in_a_wider_type_is_merged_and_rounded_to_that_of_its_matrix() -> None:
    result, source = tautomer.optimize(mixed(WIDE)), mixed(WIDE).graph.initializers
    assert operators(result) == {"MatMul": 1} and result.verification["verdict"] == "EQUAL"
    w, a, b = (source[name].const_value.numpy().astype(np.float64) for name in "wab")
    (merged,) = result.model.graph.initializers.values()
    assert np.array_equal(merged.const_value.numpy(), (w + a @ b).astype(np.float16))


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (WIDE.replace("y = Cast <to = 10> (k)", "y = Identity (k)"), "float", "the sum stays in FLOAT"),
        (
            WIDE.replace("l = MatMul (h", "g = Cast <to = 10> (h)\n n = Cast <to = 1> (g)\n l = MatMul (n"),
            "float16",
            "(node 'Cast#g', Cast)",
        ),
    ],
    ids=["no conversion back", "rounded inside"],
)
def test_sums_that_round_elsewhere_stay(body: str, kind: str, said: str) -> None:
    result = tautomer.optimize(mixed(body, kind))
    assert operators(result)["MatMul"] == 3 and said in missed(result)[0]


ROWS = 14
EMBEDDED = """
    e = Gather <axis = 0> (table, ids)
    turned = Transpose <perm = [1, 0]> (down)
    h = Gather <axis = 0> (turned, ids)
    l = MatMul (h, b)
    k = Mul (l, s)
    t = Add (e, k)
    y = Tanh (t)
"""


def table(body: str, outputs: str = f"float[batch, 4, {OUT}] y") -> ir.Model:
    return residual_model(
        body, weights={"table": (ROWS, OUT), "down": (RANK, ROWS), "b": (RANK, OUT), "s": (), "w": (OUT, IN)},
        inputs="int64[batch, 4] ids", outputs=outputs, replace={"s": REPLACE["s"]},
    )  # fmt: skip


def test_an_adapter_of_a_table_is_merged_into_it() -> None:
    result = tautomer.optimize(table(EMBEDDED))
    assert operators(result) == {"Gather": 1, "Tanh": 1} and result.verification["verdict"] == "EQUAL"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            EMBEDDED.replace("y = ", "v = ")
            + "head = Transpose <perm = [1, 0]> (table)\n y = MatMul (v, head)",
            "would be stored twice",
        ),
        (
            EMBEDDED.replace("(turned, ids)", "(turned, more)").replace("h =", "more = Mul (ids, ids)\n h ="),
            "linear in different tensors",
        ),
    ],
    ids=["tied to a head", "of other indices"],
)
def test_tables_that_stay(body: str, said: str) -> None:
    outputs = f"float[batch, 4, {ROWS if 'head' in body else OUT}] y"
    result = tautomer.optimize(table(body, outputs), norm="ln")
    assert operators(result)["Gather"] == 2 and said in missed(result)[0]


def test_half_precision_is_merged_in_double() -> None:
    half = model(LORA, dtype=np.float16, inputs="float16[batch, 4, 12] x", outputs="float16[batch, 4, 10] y")
    result = tautomer.optimize(half)
    assert operators(result)["MatMul"] == 1 and result.verification["verdict"] == "EQUAL"


@pytest.mark.parametrize(
    "wrong",
    ["scale lost", "scale squared", "second matrix of another", "bias scaled"],
)
def test_a_wrong_merge_is_refused_at_its_site(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants of the rule: the evidence of the site refuses each, and the model stays as it was."""
    body = SPELLINGS["bias of its own"].replace("k = Add (l, d)", "e = Add (l, d)\n k = Mul (e, s)")
    right = AffineMaps.written

    def written(maps: AffineMaps, b: Builder, value: ir.Value, x: ir.Value) -> Any:
        made = right(maps, b, value, x)
        node = value.producer()
        if node is None or node.op_type != "Mul" or value is x:
            return made
        below = right(maps, b, node.inputs[0], x)
        double = ir.DataType.DOUBLE
        if wrong == "scale lost":
            return below
        if wrong == "bias scaled":
            return type(made)(made.matrix, None, below.row)
        if wrong == "scale squared":
            factor = b.op("Cast", node.inputs[1], to=int(double))
            return type(made)(b.op("Mul", made.matrix, factor), None, made.row)
        return type(made)(b.op("Mul", made.matrix, b.scalar(-1.0, double)), None, made.row)

    monkeypatch.setattr(AffineMaps, "written", written)
    result = tautomer.optimize(model(body))
    assert operators(result)["MatMul"] == 3 and "differ in exact arithmetic" in missed(result)[0]


def test_the_pass_leaves_a_bottleneck_alone() -> None:
    """Two narrow products that add to nothing, and two with an activation between."""
    for body in ("h = MatMul (x, a)\n y = MatMul (h, b)", LORA.replace("MatMul (h, b)", "MatMul (q, b)")):
        result = tautomer.optimize(model(body.replace("l =", "q = Tanh (h)\n l =")))
        assert operators(result)["MatMul"] >= 2 and not missed(result)


def test_bfloat16_is_merged_in_double() -> None:
    source = model(
        LORA, dtype=ml_dtypes.bfloat16, inputs="bfloat16[batch, 4, 12] x", outputs="bfloat16[batch, 4, 10] y"
    )
    remarks = tautomer.explain(source)
    assert any(remark.rule == "merge adapters" and remark.kind == "passed" for remark in remarks)
