"""A library of kernels for onnxruntime's CPU: one C++ file, built by any compiler without other headers.

    so = build(library_text(kernels))
    options.register_custom_ops_library(so)

Every operator is registered in the domain `tautomer` under its definition's name. The outputs of a library
are right only with onnxruntime of version 1.18 or newer, which it checks when it is loaded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tautomer.codegen.attention import calls as attention_calls
from tautomer.codegen.onnxruntime import attention as ort_attention
from tautomer.codegen.onnxruntime import gate as ort_gate
from tautomer.codegen.onnxruntime import sparse as ort_sparse
from tautomer.codegen.onnxruntime.abi import ELEMENT_TYPES, OTHER_TYPES, declarations
from tautomer.codegen.onnxruntime.glue import GLUE, TASK_BYTES
from tautomer.codegen.onnxruntime.register import REGISTER
from tautomer.codegen.sparse import kernel as sparse_kernel
from tautomer.errors import InternalError
from tautomer.machine import Variant
from tautomer.patterns.operation import KINDS, WHOLE_PARAMETERS
from tautomer.patterns.rowwise.places import place_names

_INCLUDES = ("atomic", "cmath", "cstdarg", "cstdint", "cstdio", "cstdlib", "cstring", "memory", "new")
_ARGUMENTS = "const void* const*, void* const*, const double*, int64_t, int64_t, int64_t"
_PART = "const void*, void*, int64_t, int64_t"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class OrtVariant:
    """Another algorithm of a kernel.

    Attributes:
        symbol, text: like those of the kernel that it stands in for.
        when: for which tensors it does.
        parts: whether the text also has SYMBOL_partial and SYMBOL_finish, for threads that share a row.
    """

    symbol: str
    text: str
    when: Variant
    parts: bool = False


@dataclass(frozen=True)
class OrtKernel:
    """A kernel, and the operator that it computes.

    Attributes:
        op: the operator's name in the domain `tautomer`.
        symbol: the name of the kernel's function, `void (const void* const* inputs, void* const* outputs,
            const double* parameters, int64_t first, int64_t last, int64_t columns)` with C linkage. The
            output may be the first input.
        text: the C++ text that defines it; those of a library stand one after the other.
        element_type: the ONNX name of the type of all inputs and of the output.
        operands: the inputs after x, by name.
        parameters: the scalar attributes in the order of the kernel's array, with what an absent one is.
        kinds: how each operand goes with x, see `patterns.operation.kind_of`.
        row_axes: how many last axes make a row; 0 for an operator that works on elements.
        grouped: whether rows are what all axes but the first are cut into.
        attributes: what the operator's text attributes must say for this kernel to be the right one.
        results: how each output goes with x: "full", or "column" for one number per row.
        variants: other algorithms; the first that a tensor is large enough for takes the kernel's place.
    """

    op: str
    symbol: str
    text: str
    element_type: str
    operands: tuple[str, ...] = ()
    parameters: tuple[tuple[str, float], ...] = ()
    kinds: tuple[str, ...] = ()
    row_axes: int = 0
    grouped: bool = False
    attributes: tuple[tuple[str, str], ...] = ()
    variants: tuple[OrtVariant, ...] = ()
    results: tuple[str, ...] = ("full",)

    @property
    def functions(self) -> tuple[tuple[str, str], ...]:
        """Symbol and text of the kernel and of its variants."""
        return ((self.symbol, self.text), *((one.symbol, one.text) for one in self.variants))


@dataclass(frozen=True)
class OrtFamily:
    """What operators that do not work on rows have in common.

    Attributes:
        constant: the C++ name of their `Family`.
        table: the C++ type of what each of them tells it: functions, then details.
        glue: the C++ text that defines these.
        parts: what stands behind the symbol of each function of a kernel, in the order of the table.
    """

    constant: str
    table: str
    glue: str
    parts: tuple[str, ...]


SPARSE = OrtFamily("SPARSE", "SparseFunctions", ort_sparse.GLUE, sparse_kernel.PARTS)
ATTENTION = OrtFamily("ATTENTION", "AttentionDetails", ort_attention.GLUE, attention_calls.PARTS)
GATE = OrtFamily("GATE", "GateDetails", ort_gate.GLUE, ort_gate.PARTS)


@dataclass(frozen=True)
class OrtOther:
    """The kernel of an operator that does not work on rows, for one element type.

    Attributes:
        family: with what it is called.
        op: the operator's name in the domain `tautomer`.
        inputs: names of its inputs.
        symbol, text: of the kernel.
        element_type: the ONNX name of the type of the output, and of all inputs that have no other.
        details: C++ literals that follow the functions in its table.
        input_types: the ONNX names of the types of all inputs; () where they are that of the output.
        output_types: the same of all outputs; () where there is one.
    """

    family: OrtFamily
    op: str
    inputs: tuple[str, ...]
    symbol: str
    text: str
    element_type: str
    details: tuple[str, ...] = ()
    input_types: tuple[str, ...] = ()
    output_types: tuple[str, ...] = ()

    @property
    def functions(self) -> tuple[str, ...]:
        """The symbols of its functions."""
        return tuple(self.symbol + part for part in self.family.parts)


def library_text(entries: Sequence[OrtKernel], others: Sequence[OrtOther] = ()) -> str:
    """The C++ file of a library that exports `RegisterCustomOps`.

    Args:
        entries: the kernels. Those of one operator and element type differ in their text attributes; where a
            node does not say them, the first kernel is taken.
        others: those that do not work on rows, of each operator and type one.

    Raises:
        InternalError: an entry that makes no sense, or entries that contradict each other.
    """
    if not entries and not others:
        raise InternalError("a library without kernels")
    for entry in entries:
        _check(entry)
    operators: dict[tuple[str, str], list[OrtKernel]] = {}
    for entry in entries:
        operators.setdefault((entry.op, entry.element_type), []).append(entry)
    lines = [f"#include <{name}>" for name in _INCLUDES]
    # visible, so that each can be tried on its own; with C linkage, what a text has in a namespace of its own
    # is the same function that is declared here
    lines.append("#pragma GCC visibility push(default)")
    functions = dict.fromkeys(one for entry in entries for one in entry.functions)
    lines += dict.fromkeys((*(text for _, text in functions), *(one.text for one in others)))
    symbols = [symbol for symbol, _ in functions]
    symbols += [function for one in others for function in one.functions]
    lines += [f'extern "C" void {symbol}({_ARGUMENTS});' for symbol in dict.fromkeys(symbols)]
    shared = dict.fromkeys(one.symbol for entry in entries for one in entry.variants if one.parts)
    for symbol in shared:
        lines.append(f'extern "C" void {symbol}_partial({_PART}, double*);')
        lines.append(f'extern "C" void {symbol}_finish({_PART}, const double*, const double*);')
    lines.append("#pragma GCC visibility pop")
    lines += ["namespace {", declarations(), _limits(entries, others), GLUE, REGISTER]
    rows = [_operator(number, kernels, lines) for number, kernels in enumerate(operators.values())]
    lines += dict.fromkeys(one.family.glue for one in others)
    rows += [_other(number, one, lines) for number, one in enumerate(others)]
    lines += _array("Description", "descriptions", rows)
    lines += [
        "}  // namespace",
        'extern "C" __attribute__((visibility("default")))',
        "Status* RegisterCustomOps(SessionOptions* options, const ApiBase* base) {",
        f"  return add_all(options, base, {_list('descriptions', rows)});",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _check(entry: OrtKernel) -> None:
    """An entry's names become C++: they are refused unless they are plain."""
    symbols = (symbol for symbol, _ in entry.functions)
    names = (entry.op, *symbols, *entry.operands, *(name for name, _ in entry.parameters))
    for name in (*names, *(name for name, _ in entry.attributes)):
        if not _NAME.fullmatch(name):
            raise InternalError(f"'{name}' is no name", where=f"kernel of {entry.op}")
    if not all(value.isascii() and value.isprintable() for _, value in entry.attributes):
        raise InternalError("a text that is not plain", where=f"kernel of {entry.op}")
    if entry.element_type not in ELEMENT_TYPES:
        raise InternalError(f"no element type '{entry.element_type}'", where=f"kernel of {entry.op}")
    if not all(math.isfinite(value) for _, value in entry.parameters):
        raise InternalError("a default that is not finite", where=f"kernel of {entry.op}")
    sizes = [one.when for one in entry.variants]
    least = [number for one in sizes for number in (one.least_bytes, one.least_columns, one.multiple)]
    if not all(0 <= number < 1 << 63 for number in least) or not all(one.multiple for one in sizes):
        raise InternalError("a size that is none", where=f"kernel of {entry.op}")
    if not entry.results or not set(entry.results) <= {"full", "column"}:
        raise InternalError("a result of no kind", where=f"kernel of {entry.op}")
    if "column" in entry.results and not entry.row_axes:
        raise InternalError("one number per row, and no rows", where=f"kernel of {entry.op}")
    rows = entry.row_axes or entry.grouped
    if len(entry.kinds) != len(entry.operands) or not set(entry.kinds) <= set(KINDS):
        raise InternalError("an operand of no kind", where=f"kernel of {entry.op}")
    if not rows and not set(entry.kinds) <= {"full", "number"}:
        raise InternalError("an operand of a row's shape, and no rows", where=f"kernel of {entry.op}")


def _limits(entries: Sequence[OrtKernel], others: Sequence[OrtOther]) -> str:
    """Constants of the glue."""
    parameters = max(
        (1, *(len(entry.parameters) + len(place_names(entry.operands, entry.kinds)) for entry in entries))
    )
    inputs = max((1, *(1 + len(entry.operands) for entry in entries), *(len(one.inputs) for one in others)))
    outputs = max((1, *(len(entry.results) for entry in entries)))
    return (
        f"constexpr size_t MOST_PARAMETERS = {parameters}, MOST_INPUTS = {inputs}, MOST_AXES = 64;\n"
        f"constexpr size_t MOST_OUTPUTS = {outputs};\n"
        f"constexpr int64_t TASK_BYTES = {TASK_BYTES};\n"
        "constexpr int FAIL = 1;\n"
    )


def _operator(number: int, kernels: Sequence[OrtKernel], lines: list[str]) -> str:
    """The table row of an operator; the lists that it refers to are appended to the lines."""
    one = kernels[0]
    for other in kernels[1:]:
        if _shape(other) != _shape(one) or other.attributes == one.attributes:
            raise InternalError("two kernels that contradict each other", where=f"kernel of {one.op}")
    inputs = [_quoted(name) for name in ("x", *one.operands)]
    lines += _array("char* const", f"inputs_{number}", inputs)
    kinds, results = ("".join(kind[0] for kind in each) for each in (("full", *one.kinds), one.results))
    rows = []
    for index, kernel in enumerate(kernels):
        suffix = f"{number}_{index}"
        attributes = [f"{{{_quoted(name)}, {_quoted(value)}}}" for name, value in kernel.attributes]
        parameters = [
            f"{{{_quoted(name)}, {value!r}f, {str(name in WHOLE_PARAMETERS).lower()}}}"
            for name, value in kernel.parameters
        ]
        variants = [_variant(one) for one in kernel.variants]
        lines += _array("Attribute", f"attributes_{suffix}", attributes)
        lines += _array("Parameter", f"parameters_{suffix}", parameters)
        lines += _array("Variant", f"variants_{suffix}", variants)
        lists = (
            _list(f"variants_{suffix}", variants),
            _list(f"attributes_{suffix}", attributes),
            _list(f"parameters_{suffix}", parameters),
        )
        rows.append(f"{{{kernel.symbol}, {', '.join(lists)}}}")
    lines += _array("Kernel", f"kernels_{number}", rows)
    code, size = ELEMENT_TYPES[one.element_type]
    return (
        f"{{{_quoted(one.op)}, {code}, {size}, {one.row_axes}, {str(one.grouped).lower()}, "
        f"{_list(f'inputs_{number}', inputs)}, {_quoted(kinds)}, {_quoted(results)}, {len(results)}, "
        f"{_list(f'kernels_{number}', rows)}, &{_family(one)}, "
        "nullptr, nullptr, nullptr}"
    )


def _other(number: int, one: OrtOther, lines: list[str]) -> str:
    """The table row of an operator that does not work on rows; what it refers to is appended to the lines."""
    for name in (one.op, one.symbol, *one.inputs):
        if not _NAME.fullmatch(name):
            raise InternalError(f"'{name}' is no name", where=f"kernel of {one.op}")
    inputs = [_quoted(name) for name in one.inputs]
    lines += _array("char* const", f"other_inputs_{number}", inputs)
    taken, given = (
        [str((ELEMENT_TYPES | OTHER_TYPES)[name][0]) for name in names]
        for names in (one.input_types, one.output_types)
    )
    lines += _array("int", f"other_inputs_of_{number}", taken)
    lines += _array("int", f"other_outputs_of_{number}", given)
    table = ", ".join((*one.functions, *one.details))
    lines.append(f"const {one.family.table} other_{number} = {{{table}}};")
    code, size = ELEMENT_TYPES[one.element_type]
    return (
        f"{{{_quoted(one.op)}, {code}, {size}, 0, false, {_list(f'other_inputs_{number}', inputs)}, "
        f'"", "", {len(given) or 1}, {{nullptr, 0}}, '
        f"&{one.family.constant}, &other_{number}, "
        f"{f'other_inputs_of_{number}' if taken else 'nullptr'}, "
        f"{f'other_outputs_of_{number}' if given else 'nullptr'}}}"
    )


def _family(one: OrtKernel) -> str:
    """The C++ name of the family: which results may take the places of inputs."""
    if one.results == ("full", "full") and one.kinds[:1] == ("full",):
        return "ROWS_WITH_SUM"
    return "ROWS" if one.results[0] == "full" else "ROWS_FOLDED"


def _shape(entry: OrtKernel) -> tuple[object, ...]:
    """What all kernels of an operator have in common."""
    return entry.operands, entry.kinds, entry.row_axes, entry.grouped, entry.results


def _variant(one: OrtVariant) -> str:
    """The table row of another algorithm."""
    when = one.when
    numbers = f"{when.least_bytes}, {when.least_columns}, {when.multiple}, {str(when.in_place).lower()}"
    shared = f"{one.symbol}_partial, {one.symbol}_finish" if one.parts else "nullptr, nullptr"
    return f"{{{one.symbol}, {numbers}, {shared}}}"


def _array(of: str, name: str, items: Iterable[str]) -> list[str]:
    """`const of name[] = {items};`; nothing for no items, which C++ has no array of."""
    inside = ",\n  ".join(items)
    return [f"const {of} {name}[] = {{\n  {inside}}};"] if inside else []


def _list(name: str, items: Sequence[str]) -> str:
    return f"{{{name}, {len(items)}}}" if items else "{nullptr, 0}"


def _quoted(text: str) -> str:
    """A C++ literal; what is not plain was refused before."""
    return json.dumps(text)
