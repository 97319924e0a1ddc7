"""What is around the loops: the function with its pointers, and the translation unit."""

from __future__ import annotations

from tautomer.codegen.algorithms import Loops
from tautomer.codegen.isa import Isa
from tautomer.codegen.trace import Program
from tautomer.codegen.vector_type import headers
from tautomer.patterns.operation import WHOLE_PARAMETERS

_SIGNATURE = (
    'extern "C" __attribute__((visibility("default")))\n'
    "void SYMBOL(const void* const* inputs, void* const* outputs, const double* parameters,\n"
    "            int64_t first, int64_t last, int64_t columns) {\n"
)
# where a row's part of an operand begins; one that is not here is a number that the loops read
_OFFSETS = {
    "full": " + row * columns",
    "row": "",
    "block": " + row / {0}_period % {0}_count * columns",
    "segment": " + row % groups * segments",
}


def indented(lines: list[str], by: int) -> str:
    """Lines of text, moved to the right."""
    return "".join(f"{' ' * by}{line}\n" for line in lines)


def function(program: Program, loops: Loops, row_type: str = "S") -> str:
    """The function around the loops over one row, or over all elements.

    Args:
        program: what is computed.
        loops: the statements.
        row_type: what operands of the shape of a row are stored as.
    """
    inputs = [("x", "S")]
    inputs += [
        (name, row_type if kind == "row" else "S")
        for name, kind in zip(program.operands, program.kinds, strict=True)
    ]
    outputs = [(name, "float" if name in program.totals else "S") for name in program.names]
    pointers = [
        f"const {of}* const {name}_all = (const {of}*)inputs[{i}];" for i, (name, of) in enumerate(inputs)
    ]
    pointers += [f"{of}* const {name}_all = ({of}*)outputs[{i}];" for i, (name, of) in enumerate(outputs)]
    # what a kernel has no use for is an unused variable, about which compilers warn
    pointers.append("(void)parameters, (void)columns;")
    pointers += [
        f"const int64_t {name} = (int64_t)parameters[{program.parameters.index(name)}];"
        for name in WHOLE_PARAMETERS
        if name in program.parameters and program.of_kind("segment")
    ]
    pointers += [
        f"const int64_t {name} = (int64_t)parameters[{number}];"
        for number, name in enumerate(program.places, len(program.parameters))
    ]
    if program.of_kind("segment"):
        pointers.append("const int64_t length = columns / segments;")
    at_row = [
        f"const {of}* const {name}_row = {name}_all{_OFFSETS[kind].format(name)};"
        for (name, of), kind in zip(inputs, ("full", *program.kinds), strict=True)
        if kind in _OFFSETS
    ]
    places = dict.fromkeys(program.names, " + row * columns")
    places |= dict.fromkeys(program.per_row, " + row") | dict.fromkeys(program.totals, "")
    at_row += [f"{of}* const {name}_row = {name}_all{places[name]};" for name, of in outputs]
    text = _SIGNATURE + indented([*pointers, *loops.once], 2)
    if program.rows:
        text += "  for (int64_t row = first; row < last; ++row) {\n"
        text += indented([*at_row, *loops.lines], 4) + "  }\n"
    else:
        at_start = [line.replace(" + row * columns", "") for line in at_row]
        text += indented([*at_start, *loops.lines], 2)
    return text + indented(list(loops.at_end), 2) + "}\n"


def unit(isa: Isa, digest: str, body: str) -> str:
    """The translation unit; its namespace lets several be compiled as one."""
    text = f"{headers(isa)}\nnamespace kernel_{digest} {{\n\n{body}\n}}  // namespace\n"
    return text.replace("SYMBOL", f"tautomer_{digest}") + "#undef INLINE\n#undef INLINE_LAMBDA\n"


def interleaved(body: str) -> str:
    """The text with the instructions of independent vectors mixed, where a compiler has to be told to."""
    return (
        "#if defined(__GNUC__) && !defined(__clang__)\n#pragma GCC push_options\n"
        '#pragma GCC optimize("schedule-insns,sched-pressure")\n#endif\n'
        f"{body}\n"
        "#if defined(__GNUC__) && !defined(__clang__)\n#pragma GCC pop_options\n#endif\n"
    )
