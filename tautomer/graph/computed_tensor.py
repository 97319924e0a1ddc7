"""A tensor that is an expression of stored ones: computed when it is asked for, and written slab by slab.

Float64 throughout, one rounding at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import numpy_type
from tautomer.graph.cuts import best_cut
from tautomer.graph.expression import Expression
from tautomer.graph.fact import Shape
from tautomer.graph.mapped import Array, Index, let_go, part_of
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.mathematics import Float64
from tautomer.graph.slabs import assembled, slabs
from tautomer.graph.step_facts import step_facts

_MATHEMATICS = Float64()


class ComputedTensor(ir.LazyTensor):
    """The rounding of an expression.

    Args:
        expression: its meaning.
        sources: the stored constants that it reads, by name.
        dtype: a float type.
        shape: of the value.
        name: of the tensor.
    """

    def __init__(
        self,
        expression: Expression,
        sources: Mapping[str, ir.TensorProtocol],
        dtype: ir.DataType,
        shape: Shape,
        name: str,
    ) -> None:
        super().__init__(self._whole, dtype, ir.Shape(shape), cache=False, name=name)
        self._expression = expression
        self._sources = {source: sources[source] for source in expression.sources}
        self._facts = step_facts(expression, self._sources)

    def slabs(self) -> Iterator[Array]:
        """The elements in order, some at a time, in the tensor's own type."""
        cut = best_cut(self._expression, self._facts)
        shape = self.shape.numpy()
        if cut is not None and any(size > 1 for size in shape[: cut.axes[-1]]):
            yield self._whole().numpy()  # its slabs do not follow one another
            return
        for _, value in slabs(self._expression, self._facts, _MATHEMATICS, self._read, cut):
            yield self._rounded(value)

    def tofile(self, file: BinaryIO) -> None:
        """Writes the bytes, slab by slab."""
        for slab in self.slabs():
            little = slab.astype(slab.dtype.newbyteorder("<"), copy=False)
            file.write(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)

    def _whole(self) -> ir.Tensor[Any]:
        value = assembled(self._expression, self._facts, _MATHEMATICS, self._read, self._rounded)
        return ir.Tensor(value, dtype=self.dtype, name=self.name)

    def _rounded(self, value: Any) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(_MATHEMATICS.concrete(value)).astype(numpy_type(self.dtype))

    def _read(self, name: str, axis: int | None, index: Index) -> Any:
        taken = part_of(self._sources[name], axis, index)
        value = lift(_MATHEMATICS, taken)
        let_go(taken)
        return value
