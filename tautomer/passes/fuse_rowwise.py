"""fuse rowwise: pointwise operations and row reductions that follow each other -> one operator.

    the values of a region = tautomer.Rowwise_<hash>(the tensors that the region reads)

Condition: what others read of it is of the shape of what it reads or one number per row, and they come behind
it; all its reductions go over the same rows, everything that it reads goes with them as an operand of a
kernel does, and fewer tensors are read and written than by one node after the other. What the runtime fuses
with a matrix product or a convolution stays there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.errors import InputError
from tautomer.graph.build import Builder
from tautomer.graph.dead_code import remove_dead
from tautomer.graph.facts import bind_symbols
from tautomer.graph.naming import label
from tautomer.passes.fold_batch_norm import fold_batch_norms
from tautomer.passes.rowwise.body import Written, written_region
from tautomer.passes.rowwise.growth import Regions
from tautomer.passes.rowwise.nodes import Sizes, Unfit
from tautomer.passes.rowwise.region import Region
from tautomer.passes.runtime_fusions import between_convolutions, left_to_the_runtime
from tautomer.passes.workspace import Workspace
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.rowwise.program import obstacle
from tautomer.patterns.rowwise.reading import definition_in
from tautomer.patterns.shapes_of_ours import facts_of
from tautomer.remarks import Remark
from tautomer.target import Target

_CACHED = 512 << 10
"""Bytes of a row, and of what is read with it, that are in a cache when the row is gone through again."""


@dataclass(frozen=True)
class FuseRowwise:
    """Rewrites rowwise regions of the main graph.

    Attributes:
        target: whether it runs kernels of ours.
    """

    name: ClassVar[str] = "fuse rowwise"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each region that was rewritten or might have been."""
        if not self.target.fuses_rowwise:
            return []
        fusing = _Fusing(work)
        regions, missed = fusing.regions()
        folded = fold_batch_norms(work, [node for region in regions for node in region.nodes])
        if folded:
            work.catch_up()
            fusing = _Fusing(work)
            regions, missed = fusing.regions()
        remarks = [_missed(node, reason) for node, reason in missed.items()]
        return [*folded, *remarks, *fusing.rewrite(regions)]


class _Fusing:
    """One run over a model."""

    def __init__(self, work: Workspace) -> None:
        self.work = work
        bound = bind_symbols(work.model)
        # the facts of the workspace do not know what other passes made for sizes that are not those
        here, there = (
            facts_of(work.model, {name: size + more for name, size in bound.items()}) for more in (0, 2)
        )
        self.sizes = Sizes(here, there)

    def regions(self) -> tuple[list[Region], dict[ir.Node, str]]:
        """The regions that pay, and what keeps other nodes from being in one."""
        found: list[Region] = []
        missed: dict[ir.Node, str] = {}
        nodes = list(self.work.model.graph)
        excluded = left_to_the_runtime(nodes, self.sizes.here)
        for value in self.work.centred:
            if (node := value.producer()) is not None:
                excluded[node] = "its mean will be looked at"
        for node in nodes:
            if all(self.sizes.here.get(value).constant for value in node.outputs):
                excluded[node] = "it is constant, and computed ahead"
        regions = Regions(nodes, self.sizes, self.work.version, excluded)
        for root in regions.roots():
            best = regions.best(root)
            reason = best if isinstance(best, str) else self._obstacle(best)
            if isinstance(best, Region) and not reason:
                regions.take(best.nodes)
                found.append(best)
                for node, why in best.refused.items():
                    if self.sizes.fact(node.outputs[0]).size == best.cut.size:
                        missed[node] = why
            elif reason:
                missed[root] = reason
        fused = {node for region in found for node in region.nodes}
        return found, {node: reason for node, reason in missed.items() if node not in fused}

    def _obstacle(self, region: Region) -> str:
        """Why a region is not worth an operator, or ""."""
        if region.work < 2:
            return next(iter(region.refused.values()), "")
        if not region.reduces and between_convolutions((v for v, _ in region.operands), region.results):
            return "the runtime keeps images in a layout of its own between convolutions"
        fact = self.sizes.fact(region.results[0])
        assert fact.dtype is not None
        reason = obstacle(self.work.version, region.cut.layout, fact.dtype)
        if reason:
            return reason
        try:
            written = written_region(region, self.sizes, self.work.version)
            definition_in(written.function, written.attributes)
        except (Unfit, InputError) as error:
            return str(error)
        full = sum(kind == "full" for _, kind in region.operands)
        again = written.passes - 1 if 4 * region.cut.columns * full > _CACHED else 0
        if again * full + region.least_moved >= region.moved:
            return f"{region.moved} tensors are read and written, and one operator would not do with fewer"
        return ""

    def rewrite(self, regions: Sequence[Region]) -> Iterator[Remark]:
        """Replaces regions by operators, those that differ only in numbers by the same operator."""
        given = self._numbers_that_differ(regions)
        for region in regions:
            yield self._rewrite(region, given[id(region)])
        self.work.catch_up()

    def _numbers_that_differ(self, regions: Sequence[Region]) -> dict[int, list[int]]:
        """Which numbers of each region become operands: those that regions of its form or weights decide."""
        alike: dict[str, list[Region]] = {}
        for region in regions:
            everything = range(len(region.numbers))
            name = written_region(region, self.sizes, self.work.version, everything).function.name
            alike.setdefault(name, []).append(region)
        found: dict[int, list[int]] = {}
        for form in alike.values():
            values = [[self._number(value) for value in region.numbers] for region in form]
            differing = [
                i
                for i, numbers in enumerate(zip(*values, strict=True))
                if len(set(numbers)) > 1 or _is_computed(form, i)
            ]
            for one in form:
                found[id(one)] = [i for i in differing if self._may_be_operand(form, i)]
        return found

    def _number(self, value: ir.Value) -> bytes:
        array = self.sizes.fact(value).array
        assert array is not None
        return array.astype("f8").tobytes()

    def _may_be_operand(self, form: Sequence[Region], index: int) -> bool:
        """Whether a number is stored as the result is, and with as few axes, in all regions."""
        for region in form:
            fact, x = self.sizes.fact(region.numbers[index]), self.sizes.fact(region.operands[0][0])
            if fact.dtype != x.dtype or len(fact.shape or ()) > len(x.shape or ()):
                return False
        return True

    def _rewrite(self, region: Region, given: Sequence[int]) -> Remark:
        work, last = self.work, region.nodes[-1]
        written = written_region(region, self.sizes, work.version, given)
        work.declare(written.function)
        assert isinstance(last.graph, ir.Graph)
        builder = work.builder(last.graph)
        inputs = [work.now(value) for value in written.inputs]
        made = builder.several(
            written.function.name, len(region.results), *inputs, domain=DOMAIN, **written.attributes
        )
        name = builder.nodes[-1].name or ""
        axes = len(region.cut.shape)
        new = [self._as_stored(builder, *pair, axes) for pair in zip(region.results, made, strict=True)]
        leaves = work.leaves(inputs)
        for index, (before, after) in enumerate(zip(region.results, new, strict=True)):
            key = (*_key(region, written, self.sizes), index)
            refusal = work.evidence.refuses(key, before, after, leaves)
            if refusal:
                builder.discard()
                return _missed(last, refusal, "this rewrite was taken back; please report it")
        work.place(builder, last)
        for before, after in zip(region.results, new, strict=True):
            work.supersede(before, after)
        remove_dead(reversed(region.nodes))
        count = len(region.computing)
        least = f"{region.least_moved}{' and one number per row' if region.per_row else ''}"
        reason = f"{count} operations became one: {region.moved} tensors read and written became {least}"
        if count == 1:
            reason = "the runtime's own takes several times as long"
        return Remark("passed", FuseRowwise.name, "Rowwise", name, reason)

    def _as_stored(self, builder: Builder, old: ir.Value, new: ir.Value, axes: int) -> ir.Value:
        """A result of the operator in the shape that the model has it in; it may lack those of a row."""
        rank = len(self.sizes.shapes(old)[0])
        if rank == axes:
            return new
        new.type = old.type
        new.shape = None if old.shape is None else ir.Shape([*old.shape, *[1] * (axes - rank)])
        as_they_are = builder.constant(np.zeros(rank, np.int64))
        return builder.op("Reshape", new, as_they_are)


def _is_computed(form: Sequence[Region], index: int) -> bool:
    """Whether a number comes from weights, and is no number of the formula itself."""
    waiting = [region.numbers[index] for region in form]
    while waiting:
        made = waiting.pop().producer()
        for value in () if made is None else made.inputs:
            if value is not None and (value.const_value is None or value.const_value.size == 1):
                waiting.append(value)
            elif value is not None:
                return True
    return False


def _key(region: Region, written: Written, sizes: Sizes) -> Any:
    """Equal for rewrites of equal structure."""
    nodes = tuple((node.op_type, tuple(sorted(node.attributes))) for node in region.nodes)
    shapes = tuple(sizes.fact(value).shape for value in written.inputs)
    return written.function.name, nodes, shapes, tuple(written.attributes.items())


def _missed(root: ir.Node, reason: str, hint: str = "") -> Remark:
    return Remark("missed", FuseRowwise.name, "Rowwise", label(root), reason, hint)
