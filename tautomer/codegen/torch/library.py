"""The library that makes kernels operators of torch: their schemas, and what calls them on tensors.

It is built once for all operators, against torch's stable ABI, and holds no kernel. Kernels are libraries of
their own, one for an operator and element type, and are attached when they are first wanted: torch's headers
take the compiler some seconds, a kernel a fraction of one.
"""

from __future__ import annotations

from tautomer.codegen.storage import DTYPES
from tautomer.codegen.torch.glue import ATTACH, GLUE, GRAIN_BYTES, INCLUDES
from tautomer.codegen.torch.operators import NAMESPACE, OPERATORS, Signature, forward, kernel, signatures

# the oldest version of torch whose ABI is used
TARGET_VERSION = "0x020b000000000000"
_ABSENT = {"scale": "1", "bias": "0"}  # what a row is where it is not given


def library_text() -> str:
    """The C++ file of the library; it exports `tautomer_torch_attach`."""
    all_of_them = signatures()
    lines = [INCLUDES, "namespace {", _limits(all_of_them), GLUE, "Operator operators[] = {"]
    lines += [f"  {_row(one)}," for one in all_of_them]
    lines += [
        "};",
        "template <int index>",
        "void boxed(StableIValue* stack, uint64_t, uint64_t) { compute(operators[index], stack); }",
        "}  // namespace",
        ATTACH,
        f"STABLE_TORCH_LIBRARY_FRAGMENT({NAMESPACE}, m) {{",
        *(f'  m.def("{one.schema}");' for one in (*map(forward, OPERATORS), *all_of_them)),
        "}",
        f"STABLE_TORCH_LIBRARY_IMPL({NAMESPACE}, CPU, m) {{",
        *(f'  m.impl("{one.name}", &boxed<{index}>);' for index, one in enumerate(all_of_them)),
        *(f'  m.impl("{forward(one).name}", &boxed<{index_of(kernel(one))}>);' for one in OPERATORS),
        "}",
    ]
    return "\n".join(lines) + "\n"


def index_of(signature: Signature) -> int:
    """Which of the library's operators it is."""
    return [one.name for one in signatures()].index(signature.name)


def index_of_dtype(dtype: str) -> int:
    """Which of the library's element types it is."""
    return DTYPES.index(dtype)


def _limits(all_of_them: tuple[Signature, ...]) -> str:
    inputs = max(1 + len(one.program.operands) for one in all_of_them)
    outputs = max(len(one.outputs) for one in all_of_them)
    parameters = max(1, *(len(one.program.parameters) for one in all_of_them))
    return (
        f"constexpr int MOST_INPUTS = {inputs}, MOST_OUTPUTS = {outputs}, MOST_PARAMETERS = {parameters};\n"
        f"constexpr int64_t GRAIN_BYTES = {GRAIN_BYTES};\n"
    )


def _row(one: Signature) -> str:
    """The table row of an operator."""
    program = one.program
    letters = "".join(_ABSENT.get(name, "x") for name in program.operands)
    totals = len(program.totals)
    values = len(program.names) - totals
    rows = str(program.rows).lower()
    return f'{{"{one.name}", {rows}, "x{letters}", {len(program.parameters)}, {values}, {totals}, {{}}}}'
