"""The text of Triton kernels: golden files, and nothing of a model in it. Needs no triton."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from tautomer.codegen.torch.operators import Signature, backward, forward, operator_of
from tautomer.codegen.triton.configuration import Configuration, configuration, for_few_rows
from tautomer.codegen.triton.kernel import triton_kernel
from tautomer.errors import InputError

GOLDEN = Path(__file__).parent / "golden"
WRITTEN = {
    "add_rms_norm_rows": (forward(operator_of("add_rms_norm")), "rows"),
    "layer_norm_backward_rows": (backward(operator_of("layer_norm")), "rows"),
    "softmax_loops": (forward(operator_of("softmax")), "loops"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_text_is_the_golden_one(name: str) -> None:
    signature, form = WRITTEN[name]
    text = triton_kernel(signature.program, form).text
    place = GOLDEN / f"{name}.py.txt"
    if os.environ.get("TAUTOMER_REMAKE_GOLDEN"):
        place.write_text(text)
    assert text == place.read_text()


def test_equal_programs_have_equal_kernels_and_others_other_names() -> None:
    program = forward(operator_of("gelu")).program
    other = forward(operator_of("silu")).program
    assert triton_kernel(program).name == triton_kernel(program).name != triton_kernel(other).name


@pytest.mark.parametrize("part", [forward, backward])
@pytest.mark.parametrize("name", ["rms_norm", "swiglu", "log_softmax"])
def test_names_in_a_text_are_those_of_definitions(name: str, part: object) -> None:
    signature: Signature = (forward if part is forward else backward)(operator_of(name))
    kernel = triton_kernel(signature.program)
    tree = ast.parse(kernel.text)
    function = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == kernel.name)
    tensors = ("x", *signature.program.operands, *signature.program.names)
    arguments = [argument.arg for argument in function.args.args]
    assert arguments == [*(f"{one}_ptr" for one in tensors), *kernel.numbers, *kernel.constants]


def test_sums_over_rows_of_any_length_are_refused() -> None:
    with pytest.raises(InputError, match="sums over rows"):
        triton_kernel(backward(operator_of("layer_norm")).program, "loops")


@pytest.mark.parametrize("columns", [1, 15, 16, 17, 768, 8192, 8193, 1 << 20])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_a_tile_holds_a_row_or_its_rows_are_looped(columns: int, itemsize: int) -> None:
    found = configuration(forward(operator_of("layer_norm")).program, columns, itemsize)
    assert found is not None
    assert found.form == "loops" or columns <= found.block < 2 * max(columns, 16)
    assert found.block & (found.block - 1) == 0
    assert found.warps <= 32


def test_few_long_rows_are_shared_and_many_are_not() -> None:
    usual = configuration(forward(operator_of("softmax")).program, 100_000, 2)
    assert usual is not None and usual.form == "loops"
    assert for_few_rows(usual, 100_000, 67, 132) == usual
    few = for_few_rows(usual, 100_000, 66, 132)
    assert few.form == "parts" and few.block * few.parts >= 100_000
    assert for_few_rows(usual, 100_000, 1, few.parts - 1) == usual  # its programs would not run at once
    whole = Configuration(1, 1024, 4)
    assert for_few_rows(whole, 768, 1, 132) == whole
