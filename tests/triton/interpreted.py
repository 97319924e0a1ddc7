"""Runs Triton kernels in Triton's interpreter and prints what they are off by, as JSON: name -> reason or "".

A program of its own, because `triton.jit` looks at TRITON_INTERPRET when triton is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import interpreted_sparse
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "codegen"))
from test_rowwise_kernels import GROUPED, PLAIN, mixed, operands_of, wanted

from tautomer.codegen.gradient import gradient
from tautomer.codegen.torch.operators import OPERATORS, Signature, backward, forward, operator_of
from tautomer.codegen.trace import Program, trace
from tautomer.codegen.triton.configuration import Configuration
from tautomer.codegen.triton.exchange import steps
from tautomer.codegen.triton.kernel import triton_kernel
from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.operation import definition_of, definitions
from tautomer.patterns.rows import apply_all
from tautomer.runtime.torch.first_runs import OFF, rows_trial, sparse_trial
from tautomer.runtime.torch.ops_cuda import compute
from tautomer.runtime.torch.ops_meaning import meaning
from tautomer.runtime.triton.grid import Launch, launch
from tautomer.runtime.triton.launch import run

ROWS, COLUMNS = 5, 37
LOOPED = Configuration(2, 16, 1, "loops")
TOGETHER = Configuration(2, 16, 1, "loops", together=8)
# the interpreter runs one program after the other, so that none can wait for another
ALONE = Configuration(1, 64, 1, "parts", 1)
# of the largest element of a result; sums of 37 numbers in another order, and functions within a few ulp
SINGLE = 2e-6
# the interpreter cuts digits off where a device rounds: one unit in the last place, relative to the element
NARROW = {"bfloat16": 2.0**-7, "float16": 2.0**-10}
Case = Callable[[], str]


def off(out: Any, exact: Any, allowed: float) -> str:
    """How far a result is off, relative to its largest element; NaN and infinities lie where they should."""
    a, b = np.asarray(out, np.float64), np.asarray(exact, np.float64)
    if a.shape != b.shape:
        return f"shape {a.shape}, not {b.shape}"
    if not (np.array_equal(np.isnan(a), np.isnan(b)) and np.array_equal(np.isinf(a), np.isinf(b))):
        return "NaN or infinity elsewhere"
    finite = np.isfinite(b)
    error = np.abs(a[finite] - b[finite])
    scale = np.abs(b[finite]).max(initial=1e-30)
    return "" if error.max(initial=0.0) <= allowed * scale else f"off by {error.max() / scale:.1e}"


def operator(signature: Signature, dtype: str, shape: tuple[int, ...], chosen: Configuration | None) -> str:
    """An operator of torch, against its meaning in float64."""
    torch.manual_seed(0)
    kinds = ("full", *signature.program.kinds)
    given = [torch.randn(shape[-1:] if kind == "row" else shape).to(getattr(torch, dtype)) for kind in kinds]
    numbers = [0.375 for _ in signature.program.parameters]
    found = run(signature.program, given, numbers, chosen=chosen)
    exact = meaning(signature)(*(one.double() for one in given), *numbers)
    exact = exact if isinstance(exact, tuple) else (exact,)
    for one, right in zip(found, exact, strict=True):
        if one.dtype == torch.float32:
            reason = off(one, right, SINGLE if dtype == "float32" else NARROW[dtype])
        else:  # every element by itself
            allowed = NARROW[dtype] * right.abs() + SINGLE * right.abs().max()
            worst = ((one.double() - right).abs() / allowed).max().item() if one.numel() else 0.0
            reason = "" if worst <= 1.0 else f"off by {worst:.2f} units in the last place"
        if reason:
            return reason
    return ""


def definition(key: str) -> str:
    """A definition on numbers of every size, with operands beside them, against itself in float64."""
    found = next(one for one in definitions() if one.key == key)
    program = trace(found)
    x = np.concatenate(
        [np.linspace(-12, 12, 3 * COLUMNS), [0.0, -0.0, 1e-5, -1e-5, 0.24, -0.26, 88.0, -88.0]]
    )
    x = np.resize(x, (ROWS, COLUMNS)).astype(np.float32)
    random = np.random.default_rng(0)
    shapes = [x.shape if found.kind(name) == "full" else x.shape[-1:] for name in found.operands]
    # variances and deviations are among them, which are positive
    operands = [random.uniform(0.5, 2.0, shape).astype(np.float32) for shape in shapes]
    if operands and not found.rows:
        x[1] = operands[0][:COLUMNS] if operands[0].ndim == 1 else x[1]  # where a bound is x itself
    axes = (-1,) if found.rows else ()
    wide = dict(zip(found.operands, (one.astype(np.float64) for one in operands), strict=True))
    (exact,) = apply_all(found, Float64(), x.astype(np.float64), axes=axes, operands=wide)
    forms = (None, LOOPED) if program.rows else (None,)
    tensors = [torch.from_numpy(one) for one in (x, *operands)]
    for chosen in forms:
        numbers = list(found.parameters.values())
        (result,) = run(program, tensors, numbers, chosen=chosen)
        exact = exact.reshape(result.shape)
        reason = off(result, exact, SINGLE)
        if reason:
            return reason
    return ""


def rowwise(kinds: tuple[str, ...], form: str, chosen: Configuration | None) -> str:
    """Every way in which an operand goes with x."""
    grouped = form == "groups"
    random = np.random.default_rng(0)
    shape = (2, 3, 2, 5) if grouped else (2, 3, COLUMNS)
    x = random.standard_normal(shape).astype(np.float32)
    operands = [one.astype(np.float32) for one in operands_of(kinds, shape, random)]
    made = mixed(kinds, form)
    tensors = [torch.from_numpy(one) for one in (x, *operands)]
    if grouped:  # rows are the last axis
        tensors = [one.flatten(-2) if one.ndim > 1 else one for one in tensors]
    sizes = {"groups": 3.0, "segments": 2.0}
    found = run(trace(made), tensors, [sizes[name] for name in made.parameters], chosen=chosen)
    pairs = zip(found, wanted(x, operands, form), strict=True)
    return next(filter(None, (off(one, right.reshape(one.shape), SINGLE) for one, right in pairs)), "")


def special(program: Program, chosen: Configuration | None) -> str:
    """Softmax of rows with masks, all masked, infinite, NaN and of one large element."""
    x = np.zeros((6, COLUMNS), np.float32)
    x[0, ::2] = x[1] = -np.inf
    x[2, 3], x[3, 4], x[4, 5] = np.inf, np.nan, 3e38
    x[5] = np.linspace(-100, 100, COLUMNS)
    found = definition_of("Softmax")
    assert found is not None
    (exact,) = apply_all(found, Float64(), x.astype(np.float64), axes=(-1,))
    (result,) = run(program, [torch.from_numpy(x)], [], chosen=chosen)
    return off(result, exact, SINGLE)


def stretches(name: str) -> str:
    """Rows that programs share. None waits: counters are full; a pass finds what the launch before gave."""
    signature = forward(operator_of(name))
    kernel, rows, columns = triton_kernel(signature.program, "shared"), 2, 70
    chosen = Configuration(1, 16, 1, "shared", 2, 1, 1, turns=True)
    kinds = ("full", *signature.program.kinds)
    given = [torch.randn((columns,) if kind == "row" else (rows, columns)) for kind in kinds]
    exchanges, parameters = steps(signature.program), [0.375 for _ in signature.program.parameters]
    reduced = torch.zeros(2 * rows * sum(map(len, exchanges)))
    counter = torch.full((rows * len(exchanges),), 1000, dtype=torch.int32)
    out = torch.empty(rows, columns)
    numbers = {**dict.fromkeys(kernel.numbers, 0.375), "rows": rows, "columns": columns}
    arguments = (*given, out, reduced, counter, *(numbers[one] for one in kernel.numbers))
    for _ in range(len(exchanges) + 1):
        launch(Launch(kernel.name, kernel.text, 2 * rows, kernel.tile(chosen), 1), arguments, out.device)
    return off(out, meaning(signature)(*(one.double() for one in given), *parameters), SINGLE)


def derivative(key: str) -> str:
    """The gradient of an activation that is no operator of torch's, against differences in float64."""
    found = next(one for one in definitions() if one.key == key)
    made = gradient(trace(found, ()))
    x = torch.linspace(-4.03, 4.0, 50)
    first = torch.from_numpy(apply_all(found, Float64(), x.double().numpy())[0]) if made.from_result else x
    (result,) = run(made.program, [first.float(), torch.ones(50)], list(found.parameters.values()))
    step = 1e-6

    def value(points: torch.Tensor) -> Any:
        return apply_all(found, Float64(), points.double().numpy())[0]

    return off(result, (value(x.double() + step) - value(x.double() - step)) / (2 * step), 1e-5)


def absent() -> str:
    """A scale and a bias that are not there."""
    signature = forward(operator_of("layer_norm"))
    x = torch.randn(3, COLUMNS)
    return off(
        compute(signature, (x, None, None, 1e-5)), meaning(signature)(x.double(), None, None, 1e-5), SINGLE
    )


def apart() -> str:
    """Rows that are not contiguous, and begin at an odd address."""
    x = torch.randn(4, 2 * COLUMNS + 1)[:, 1::2]
    return off(
        run(forward(operator_of("softmax")).program, [x], [])[0], torch.softmax(x.double(), -1), SINGLE
    )


def tried(compute: Callable[[], Any]) -> str:
    """What a first run computes, and with what it is compared."""
    return next(filter(None, (off(found.double(), exact, OFF["bfloat16"]) for found, exact in compute())), "")


def cases() -> dict[str, Case]:
    """All of them, by name."""
    found: dict[str, Case] = {}
    for one in OPERATORS:
        for signature in (forward(one), backward(one)):
            program = signature.program
            found[f"{signature.name} float32"] = partial(
                operator, signature, "float32", (ROWS, COLUMNS), None
            )
            found[f"{signature.name} bfloat16"] = partial(operator, signature, "bfloat16", (2, 64), None)
            if program.rows and not program.totals:
                found[f"{signature.name} block by block"] = partial(
                    operator, signature, "float32", (ROWS, COLUMNS), LOOPED
                )
    softmax, layer_norm = (forward(operator_of(name)) for name in ("softmax", "layer_norm"))
    for name, columns in {"1": 1, "block - 1": 15, "block": 16, "block + 1": 17}.items():
        for chosen in (None, LOOPED):
            found[f"{columns} columns, {name}, {'loops' if chosen else 'rows'}"] = partial(
                operator, softmax, "float32", (3, columns), chosen
            )
    found["no tokens"] = partial(operator, layer_norm, "float32", (0, COLUMNS), None)
    found["no tokens, gradient"] = partial(
        operator, backward(operator_of("layer_norm")), "float32", (0, COLUMNS), None
    )
    found["three axes of float16"] = partial(operator, layer_norm, "float16", (2, 3, 33), None)
    found["special values"] = partial(special, softmax.program, None)
    found["special values, block by block"] = partial(special, softmax.program, LOOPED)
    found["special values, neighbours together"] = partial(special, softmax.program, TOGETHER)
    turning = replace(LOOPED, turns=True)
    found["special values, turning"] = partial(special, softmax.program, turning)
    found["layer_norm turning"] = partial(operator, layer_norm, "float32", (ROWS, COLUMNS), turning)
    for name in ("softmax", "layer_norm"):
        found[f"{name} in stretches"] = partial(stretches, name)
    found["special values, in parts"] = partial(special, softmax.program, ALONE)
    for signature in (softmax, layer_norm, forward(operator_of("add_rms_norm"))):
        found[f"{signature.name} in parts"] = partial(operator, signature, "float32", (ROWS, COLUMNS), ALONE)
    for one in definitions():
        known = {operator.key for operator in OPERATORS}
        if one.key not in known and one.fit is None:
            found[f"definition {one.key}"] = partial(definition, one.key)
    for key in ("Mish", "Softplus", "Elu", "Tanh"):
        found[f"gradient of {key}"] = partial(derivative, key)
    for kinds in PLAIN:
        found[f"rows with {' '.join(kinds)}"] = partial(rowwise, kinds, "rows", None)
    for kinds in GROUPED:
        found[f"groups with {' '.join(kinds)}"] = partial(rowwise, kinds, "groups", None)
    found["groups, block by block"] = partial(rowwise, GROUPED[0], "groups", LOOPED)
    for chosen in (None, LOOPED):
        for form in ("per row", "both"):
            name = f"numbers {form}, {'block by block' if chosen else 'whole rows'}"
            found[name] = partial(rowwise, PLAIN[3], form, chosen)
    found["absent operands"], found["rows with gaps"] = absent, apart
    backward_of_norm = rows_trial(backward(operator_of("rms_norm")), Configuration(1, 64, 1), 48, "bfloat16")
    found["the first run of a gradient"] = partial(tried, backward_of_norm)
    found["the first run of sparse maps"] = partial(tried, sparse_trial(1, "bfloat16"))
    return found | {f"sparse linear, {name}": case for name, case in interpreted_sparse.cases().items()}


def main() -> None:
    """Runs all, with outputs that are NaN before they are written."""
    torch.use_deterministic_algorithms(True)
    results = {}
    with np.errstate(all="ignore"):
        for name, case in cases().items():
            try:
                results[name] = case()
            except Exception as error:
                results[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(results))


if __name__ == "__main__":
    main()
