"""What attention does between its two products, in Triton: a tile of q k^T becomes a tile of weights.

    x = cap(s * scale) + bias + slope * (j - i - M + N) + mask[i, j]        w = weight(x)

Where the weight is a power of e, x is kept in units that make it a power of 2, which is what the hardware
computes: (s * scale + bias) * log2(e) is one fused multiply and add, as x would be in its own units. Nothing
is folded into q: rounding it to 16 bits once more would cost what the scores have of precision.

The weight and its derivative are the score function's own, traced and differentiated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from tautomer.codegen.expression import Node, reachable
from tautomer.codegen.gradient import Gradient, gradient
from tautomer.codegen.trace import Program, trace_function
from tautomer.codegen.triton.expression import TritonWriter
from tautomer.codegen.triton.math import helper_text
from tautomer.codegen.triton.sigmoid import SIGMOIDS
from tautomer.patterns.attention.form import LOWEST, AttentionForm

_LOG2_E = 1.0 / math.log(2.0)


@dataclass(frozen=True)
class Scores:
    """The text for one form.

    Attributes:
        form: what is computed.
        sigmoid: a name in `triton_sigmoid.SIGMOIDS`.
        products: how float32 is multiplied, see `triton_attention_tiles.Tiling`.
    """

    form: AttentionForm
    sigmoid: str = "division"
    products: str = "ieee"

    @property
    def exponential(self) -> bool:
        """Whether rows are divided by their sum of powers of e, and their maximum is taken out first."""
        return self.form.function.kind == "exponential"

    @property
    def divided(self) -> bool:
        """Whether rows are divided by the sum of their weights."""
        return self.form.function.kind != "pointwise"

    @property
    def extra(self) -> bool:
        """Whether the sum of a row starts from the score of a key without a value."""
        return self.form.function.extra is not None

    @property
    def positional(self) -> bool:
        """Whether some keys are hidden from a query by their positions, the end of the keys apart."""
        return bool(self.form.causal) or self.form.window or self.form.lengths

    def of_the_call(self, heads: str = "head", there: str = "") -> list[str]:
        """Statements for what is the same for all tiles.

        Args:
            heads: of the rows of a tile, where they are several.
            there: which of them there are.
        """
        lines = []
        if self.form.softcap:
            lines += ["scale_s = scale / softcap", f"cap_x = softcap * {self._unit}"]
        else:
            lines.append(f"scale_x = scale * {self._unit}")
        if not self.exponential or self.extra:
            lines.append(f"bias_x = bias * {self._unit}")
        if self.form.alibi:
            load = f"tl.load(slopes + {heads}, mask={there}, other=0.0)[:, None]" if there else None
            lines.append(f"slope = {load or 'tl.load(slopes + head)'} * {self._unit}")
        return lines

    def of_extra(self) -> str:
        """The text of the score of a key without a value, of an exponential that has one."""
        return f"tl.load(sinks + head) * {_LOG2_E}" if self.form.sink else f"{self.form.function.extra}"

    def scores(self, hidden: bool) -> list[str]:
        """Statements that make x of s; of an exponential it is -inf where a key is not seen.

        Args:
            hidden: whether the tile has keys that are not seen.
        """
        form = self.form
        lines = []
        if form.softcap:
            lines += ["capped = tanh(s * scale_s)", "x = capped * cap_x"]
            if not self.exponential or self.extra:
                lines.append("x = x + bias_x")
        elif not self.exponential or self.extra:
            lines.append("x = s * scale_x + bias_x")
        else:
            lines.append("x = s * scale_x")
        if form.alibi:
            lines.append("x = x + slope * (j - i - (M - N))")
        if form.mask == "additive":
            lines += self._added()
        if self.exponential:
            if form.mask == "boolean":
                removed = LOWEST if form.empty == "mean" else -math.inf
                lines.append(f'x = tl.where(masked, x, float("{removed}"))')
            if hidden:
                lines.append('x = tl.where(seen, x, float("-inf"))')
        return lines

    def rescaled(self) -> list[str]:
        """Statements that raise a row's maximum m, rescale its sums, and make x - m of x; none without m.

        A row without any key yet has a maximum of -inf, and -inf - -inf is no number.
        """
        if not self.exponential:
            return []
        return [
            "raised = tl.maximum(top, tl.max(x, 1))",
            'base = tl.where(raised == float("-inf"), 0.0, raised)',
            "x = x - base[:, None]",
            "shrunk = tl.exp2(top - base)",
            "top = raised",
            "total = total * shrunk",
            "acc = acc * shrunk[:, None]",
        ]

    def weights(self, hidden: bool) -> list[str]:
        """Statements that make w of x; of what is no exponential it is 0 where a key is not seen."""
        if self.exponential:
            return ["w = tl.exp2(x)"]
        if self._sigmoid:
            lines = ["w = weight(x)"]
        else:
            writer, result = _writer(self._program, {"x": "x"}, "w")
            lines = [*writer.statements([result]), f"w = {writer.value(result)}"]
        return lines + self._removed("w", hidden)

    def second(self, hidden: bool) -> list[str]:
        """Statements that make w of w / total, of what is swept twice; `keys` and `offset` are per row."""
        second, power = self.form.function.second, self.form.power
        assert second is not None
        writer, result = _writer(trace_function(lambda m, x: second(m, x, power)), {"x": "beyond"}, "v")
        lines = ["beyond = w * by_total * keys - offset", *writer.statements([result])]
        return [*lines, f"w = {writer.value(result)}", *self._removed("w", hidden)]

    def slopes(self, hidden: bool) -> list[str]:
        """Statements that make ds, the derivative by s but for scale, of dw, the derivative by w."""
        found = self._gradient
        writer, result = _writer(found.program, {"x": "w" if found.from_result else "x"} | _GIVEN, "d")
        lines = [*writer.statements([result]), f"ds = {writer.value(result)}"]
        if not found.from_result:
            lines += self._removed("ds", hidden)
        if self.form.softcap:
            lines.append("ds = ds * (1.0 - capped * capped)")
        return lines

    def helpers(self) -> str:
        """The functions that the statements call."""
        programs = [self._gradient.program] + ([] if self._sigmoid or self.exponential else [self._program])
        called = {"tanh"} if self.form.softcap else set()
        for program in programs:
            writer, result = _writer(program, {"x": "x"} | _GIVEN, "d")
            writer.statements([result])
            called |= writer.helpers
        return helper_text(called) + (f"\n\n{SIGMOIDS[self.sigmoid]}" if self._sigmoid else "")

    def _added(self) -> list[str]:
        """Statements that add a mask.

        The lowest number of a type stays finite in units of log 2, as it is in its own: a row that has
        nothing else has equal weights.
        """
        lines = [f"added = masked.to(tl.float32) * {self._unit}"]
        if self.exponential:
            lines.append(f'added = tl.where(masked == float("-inf"), added, tl.maximum(added, {LOWEST!r}))')
        return [*lines, "x = x + added"]

    def _removed(self, name: str, hidden: bool) -> list[str]:
        """Statements that put 0 where a key is not seen."""
        lines = [f"{name} = tl.where(masked, {name}, 0.0)"] if self.form.mask == "boolean" else []
        return lines + ([f"{name} = tl.where(seen, {name}, 0.0)"] if hidden else [])

    @cached_property
    def _program(self) -> Program:
        return trace_function(self.form.function.weight)

    @cached_property
    def _gradient(self) -> Gradient:
        return gradient(self._program)

    @property
    def _sigmoid(self) -> bool:
        return self._program.results[0].op == "sigmoid"

    @property
    def _unit(self) -> float:
        return _LOG2_E if self.exponential else -_LOG2_E if self._sigmoid else 1.0


_GIVEN = {"gradient": "dw"}


def _writer(program: Program, names: dict[str, str], prefix: str) -> tuple[TritonWriter, Node]:
    """A writer that knows the inputs of a program by these names, and the program's result."""
    (result,) = program.results
    known = {n: names[n.name or n.op] for n in reachable([result]) if n.op in ("x", "operand")}
    return TritonWriter(known, prefix), result
