"""Every Triton kernel of ours with the configuration that is chosen for it, compiled for a device elsewhere.

There is no table of configurations but rules, by sizes; here is what they reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.triton_programs import programs
from tautomer.codegen.torch.operators import OPERATORS, backward, forward, operator_of
from tautomer.codegen.trace import Program
from tautomer.codegen.triton import attention as triton_attention
from tautomer.codegen.triton import attention_backward as triton_attention_backward
from tautomer.codegen.triton import attention_decode as triton_attention_decode
from tautomer.codegen.triton.attention_backward import differentiable
from tautomer.codegen.triton.attention_choices import KERNELS, choice, widest
from tautomer.codegen.triton.attention_of_keys import of_keys
from tautomer.codegen.triton.attention_of_queries import of_queries
from tautomer.codegen.triton.attention_tiles import TYPES, Tiling, padded
from tautomer.codegen.triton.configuration import Configuration, configuration, for_few_rows, on_amd
from tautomer.codegen.triton.kernel import triton_kernel
from tautomer.codegen.triton.sparse import JOIN, SparseTile, dots, dots_tile, join, sums, sums_tile
from tautomer.machine import DEVICES as MACHINES
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime.triton.attention_gradients import ROW_SUMS
from tautomer.runtime.triton.modules import load_function
from tautomer.runtime.triton.resources import DEVICES, Resources, compiled, resources

ITEM_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}
COLUMNS = tuple(1 << power for power in range(19))
HEADS = (64, 128, 256)
_COLUMNS_ALONE = (768, 4096, 65536)
_MULTIPROCESSORS = MACHINES["cuda:sm_90"].multiprocessors
# kernels that do not multiply, and how they are cut up
FIXED = {"delta": ROW_SUMS, "joined": Tiling(128, 16, 4, 1)}
FORMS: tuple[dict[str, Any], ...] = (
    *({"score": score} for score in ("softmax1", "relu", "relu2", "softplus")),
    {"score": "softplus_reweighted", "causal": "end", "power": 3},
    {"score": "softmax1", "causal": "end", "sink": True},
    *(
        {"score": score, **mask}
        for score in ("sigmoid", "softmax")
        for mask in (
            {"mask": "boolean"},
            {"mask": "additive"},
            {"causal": "start", "window": True},
            {"lengths": True, "alibi": True},
            {"softcap": True},
        )
    ),
)
# a matrix of a large model and one of a small one: neurons, outputs and inputs
SPARSE_SIZES = ((11008, 4096), (3072, 768))


@dataclass(frozen=True)
class Rows:
    """A kernel over rows or elements.

    Attributes:
        operator: without version, or the name of a program in `triton_programs`.
        part: "forward" or "backward", or "alone" of a program.
        dtype: of all tensors.
        columns: of a row.
        few: whether there are 16 rows, or as many as the device likes.
    """

    operator: str
    part: str
    dtype: str
    columns: int
    few: bool = False

    @property
    def program(self) -> Program:
        """What the kernel computes."""
        if self.part == "alone":
            return programs()[self.operator]
        return {"forward": forward, "backward": backward}[self.part](operator_of(self.operator)).program

    def chosen(self) -> Configuration | None:
        """What the rule says."""
        usual = configuration(self.program, self.columns, ITEM_SIZES[self.dtype])
        few = self.few and usual is not None
        return for_few_rows(usual, self.columns, 16, _MULTIPROCESSORS) if few else usual

    def runs_on(self, device: str) -> bool:
        """Whether it is ever launched there: programs wait for each other on NVIDIA's devices only."""
        return not (self.few and device.startswith("gfx"))

    def made(self, device: str) -> Resources:
        """What the device's compiler makes of it."""
        chosen = self.chosen()
        assert chosen is not None
        kernel = triton_kernel(self.program, chosen.form)
        chosen = on_amd(chosen) if device.startswith("gfx") else chosen
        return resources(kernel, self.dtype, kernel.tile(chosen), chosen.warps, device)


@dataclass(frozen=True)
class Attention:
    """A kernel of attention.

    Attributes:
        form: what is computed.
        kernel: forward, queries, keys or one; delta or joined, which come before and after some of them.
        head: d and e.
    """

    form: AttentionForm
    kernel: str
    head: int

    def runs_on(self, device: str) -> bool:
        """Whether the device has registers for heads of this width."""
        return self.head <= widest(self.form.dtype, device)

    def chosen(self, device: str) -> Tiling:
        """What the rule says of tensors that descriptors can describe."""
        if self.kernel in FIXED:
            return FIXED[self.kernel]
        return choice(self.form, self.kernel, self.head, self.head, device, described=True)

    def made(self, device: str) -> Resources:
        """What the device's compiler makes of it."""
        form, tiling = self.form, self.chosen(device)
        if self.kernel == "forward":
            named, inputs = triton_attention.forward(form, tiling), triton_attention.arguments(form, tiling)
        elif self.kernel == "delta":
            named = triton_attention_backward.delta(form)
            inputs = triton_attention_backward.delta_arguments(form)
        elif self.kernel == "joined":
            named = triton_attention_decode.joined(form)
            inputs = triton_attention_decode.joined_arguments(form)
        elif self.kernel == "one":
            named = triton_attention_decode.decode(form, tiling)
            inputs = triton_attention_decode.arguments(form)
        else:
            outputs = ("dq",) if self.kernel == "queries" else ("dk", "dv")
            inputs = triton_attention_backward.arguments(form, tiling, outputs)
            if self.kernel == "queries":
                named = of_queries(form, tiling)
            else:
                named = of_keys(form, tiling, grouped=False)
        size, element = {"rows": tiling.rows, "keys": tiling.keys}, TYPES[form.dtype]
        signature = {
            name: f"tensordesc<{element}[1, 1, {size[kind.split()[0]]}, {padded(self.head)}]>"
            if " " in kind
            else kind
            for name, kind in inputs
            if not name.endswith("_step")
        }
        constants = tiling.constants(self.head, self.head)
        constants |= {name: 1 for name, _ in inputs if name.endswith("_step")}
        return compiled(load_function(*named), signature, constants, tiling.warps, device, tiling.stages)


@dataclass(frozen=True)
class Sparse:
    """A kernel of sparse linear maps.

    Attributes:
        kernel: dots, sums or join.
        rows: of h.
        dtype: of all that is stored.
        size: neurons and outputs, or inputs.
    """

    kernel: str
    rows: int
    dtype: str
    size: tuple[int, int]

    def runs_on(self, device: str) -> bool:
        """Everywhere."""
        return True

    def chosen(self, device: str) -> SparseTile:
        """What the rule says."""
        processors = next(one for name, one in MACHINES.items() if name.endswith(device)).multiprocessors
        size = ITEM_SIZES[self.dtype]
        if self.kernel == "dots":
            return dots_tile(self.size[0], self.rows, size, processors)
        return sums_tile(*self.size, size, processors) if self.kernel == "sums" else JOIN

    def made(self, device: str) -> Resources:
        """What the device's compiler makes of it."""
        stored, tile = f"*{TYPES[self.dtype]}", self.chosen(device)
        numbers = ["neurons", "outputs"]
        if self.kernel == "dots":
            named, numbers = dots(self.rows, True, self.dtype), ["inputs", "neurons"]
            tensors = dict.fromkeys(("x", "gate", "up", "up_bias"), stored)
            tensors |= {"finite": "*i1", "factors": "*fp32"}
        elif self.kernel == "sums":
            named = sums(self.rows)
            tensors = {"h": stored, "weight": stored, "finite": "*i1", "sums": "*fp32"}
        else:
            named, numbers = join(True), ["parts", "elements", "outputs"]
            tensors = {"sums": "*fp32", "bias": stored, "y": stored}
        signature = {f"{name}_ptr": kind for name, kind in tensors.items()} | dict.fromkeys(numbers, "i32")
        warps = tile.warps // 2 if device.startswith("gfx") else tile.warps
        return compiled(load_function(*named), signature, tile.constants(), warps, device)


Kernel = Rows | Attention | Sparse


def rows() -> Iterator[Rows]:
    """Every operator, forward and backward, at every size of a tile; of few long rows, too."""
    for operator in OPERATORS:
        for part, signature in (("forward", forward(operator)), ("backward", backward(operator))):
            for dtype in ("bfloat16", "float32"):
                for columns in COLUMNS if signature.program.rows else (1,):
                    for few in (False, True):
                        one = Rows(operator.name, part, dtype, columns, few)
                        chosen = one.chosen()
                        if chosen is not None and few == (chosen.form == "parts"):
                            yield one


def alone() -> Iterator[Rows]:
    """Every program that is no operator, of rows that a tile holds and of longer ones."""
    for name, program in programs().items():
        for dtype in ("bfloat16", "float32"):
            for columns in _COLUMNS_ALONE if program.rows else (1,):
                yield Rows(name, "alone", dtype, columns)


@cache
def reached() -> dict[Configuration, Rows]:
    """Each configuration of rows that the rule gives, with the kernel that has the most tensors in it."""
    found: dict[Configuration, Rows] = {}
    for one in rows():
        chosen = one.chosen()
        assert chosen is not None
        if chosen not in found or _tensors(one) >= _tensors(found[chosen]):
            found[chosen] = one
    return found


def _tensors(one: Rows) -> int:
    program = one.program
    return len(program.operands) + len(program.names)


def attention() -> Iterator[Attention]:
    """Every kernel in every type and width, of scores that are divided by their sum and of others."""
    for score in ("sigmoid", "softmax"):
        for dtype in ("bfloat16", "float32"):
            for kernel in (*KERNELS, *FIXED):
                for head in HEADS:
                    causal = "" if kernel == "one" else "end"
                    yield Attention(AttentionForm(score, dtype, causal=causal), kernel, head)


def masks() -> Iterator[Attention]:
    """Every score function, and every mask, by every kernel that there is for it."""
    for options in FORMS:
        form = AttentionForm(dtype="bfloat16", **options)
        for kernel in KERNELS:
            if kernel in ("queries", "keys") and differentiable(form):
                continue
            if kernel == "one" and form.function.second is not None:
                continue
            yield Attention(form, kernel, 128)


def sparse() -> Iterator[Sparse]:
    """Every kernel for one row and for the most, in every width of elements."""
    for kernel in ("dots", "sums", "join"):
        for count in (1, 4) if kernel != "join" else (1,):
            for dtype in ("bfloat16", "float32"):
                for size in SPARSE_SIZES:
                    yield Sparse(kernel, count, dtype, size)


FAMILIES = {"rows": rows, "alone": alone, "attention": attention, "masks": masks, "sparse": sparse}
__all__ = ["DEVICES", "FAMILIES", "Attention", "Kernel", "Rows", "Sparse", "reached"]
