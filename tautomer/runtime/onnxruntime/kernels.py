"""Kernel libraries for onnxruntime: of what a model needs, or of everything there is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import onnx_ir as ir

from tautomer.codegen.algorithms import has_parts
from tautomer.codegen.cost_model import thresholds_of
from tautomer.codegen.isa import AVX2, AVX512, AVX512_BF16, PORTABLE, Isa
from tautomer.codegen.onnxruntime.library import OrtKernel, OrtOther, OrtVariant, library_text
from tautomer.codegen.storage import DTYPE_OF
from tautomer.errors import InputError, TautomerError
from tautomer.machine import Machine
from tautomer.patterns.attention.operators import operator_named
from tautomer.patterns.expert_gate import FORMULAS as GATES
from tautomer.patterns.operation import definitions
from tautomer.patterns.sparse_linear import INPUTS as SPARSE
from tautomer.runtime.kernel_cache import library
from tautomer.runtime.machine import has_pairs, machine_of, this_machine
from tautomer.runtime.onnxruntime.candidates import Candidates, Other, Wanted, family_of, kernels_for
from tautomer.runtime.onnxruntime.check import check_of
from tautomer.runtime.tuned import tuned

__all__ = [
    "Candidates",
    "Other",
    "Source",
    "Unavailable",
    "all_kernels",
    "kernels_for",
    "kernels_of",
    "library_for",
    "source_of",
]

ISAS = ("native", "avx512", "avx2", "portable")
_KNOWN = (AVX512, AVX2, PORTABLE)
# whose caches stand for those of all processors of an instruction set
_NOMINAL = {"native": "native", "avx512": "x86-64-v4", "avx2": "x86-64-v3", "portable": "x86-64"}


@dataclass(frozen=True)
class Source:
    """What a library is built from.

    Attributes:
        text: the C++ text.
        flags: what the compiler needs besides its usual flags.
        kernels: what it holds.
        others: those among it that do not work on rows.
    """

    text: str
    flags: tuple[str, ...]
    kernels: tuple[tuple[Wanted, OrtKernel], ...]
    others: tuple[OrtOther, ...] = ()

    @property
    def operators(self) -> tuple[str, ...]:
        """The names that are registered."""
        return tuple(
            dict.fromkeys((*(kernel.op for _, kernel in self.kernels), *(o.op for o in self.others)))
        )


class _Written(NamedTuple):
    wanted: Wanted
    kernel: OrtKernel
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Unavailable:
    """Why there is no library.

    Attributes:
        reason: words for a log.
    """

    reason: str


def library_for(model: ir.Model, isa: str = "native") -> Path | Unavailable:
    """The library of the kernels that a model's nodes of the domain `tautomer` can use, built if need be.

    An operator whose kernels cannot be had runs its function body, as those do that `kernels_for` declines.

    Args:
        model: any model; it is not changed.
        isa: native, avx512, avx2 or portable.

    Raises:
        InputError: no such instruction set.
    """
    known, machine = isa_of(isa), machine_of(_NOMINAL[isa])
    found = kernels_for(model)
    reasons = list(found.declined.values())
    usable: list[_Written] = []
    for wanted in found.wanted.values():
        try:
            usable += [_Written(one, *ort_kernel(one, known, machine)) for one in wanted]
        except TautomerError as error:
            reasons.append(str(error))
    others = [_other(one, known) for one in found.others]
    if not usable and not others:
        return Unavailable("; ".join(reasons) or "no node has an operator of ours")
    source = _joined(usable, others)
    try:
        return library(source.text, source.flags, check=check_of(source.kernels, source.others))
    except TautomerError as error:
        return Unavailable(str(error))


def all_kernels(ops: Collection[str] = ()) -> list[Wanted | Other]:
    """Every kernel that can be written, or those of the operators with these names.

    There are more forms of attention than a library can hold: those that are named are in it.

    Raises:
        InputError: a name that no operator with kernels has.
    """
    known = [
        one
        for one in definitions()
        # of an open number of coefficients there is a kernel for each model
        if one.rows != "folded" and not any(isinstance(x, tuple) for x in one.parameters.values())
    ]
    families = (*SPARSE, *GATES)
    names = {*(definition.op for definition in known), *families}
    for op in ops:
        if op not in names and family_of(op) is None:
            raise InputError(
                f"no kernel is written for '{op}'",
                remedy=f"choose among {', '.join(sorted(names))}, and forms of attention by their full names",
            )
    rows = [Wanted(one, dtype) for one in known if not ops or one.op in ops for dtype in DTYPE_OF]
    others = [*(op for op in families if not ops or op in ops), *filter(operator_named, ops)]
    known_others = ((op, family) for op in others if (family := family_of(op)) is not None)
    return [*rows, *(Other(op, dtype) for op, family in known_others for dtype in family.ELEMENT_TYPES)]


def kernels_of(model: ir.Model) -> tuple[list[Wanted | Other], dict[str, str]]:
    """The kernels that a model's operators use, and why others run their function bodies."""
    found = kernels_for(model)
    rows = [one for wanted in found.wanted.values() for one in wanted]
    return [*rows, *found.others], found.declined


def source_of(
    kernels: Iterable[Wanted | Other], isa: str = "native", machine: Machine | None = None
) -> Source:
    """The text of a library of kernels.

    Args:
        kernels: what it is to hold.
        isa: native, avx512, avx2 or portable.
        machine: whose caches decide from which size on which algorithm is used; None for this one's if
            `isa` is native, and for those of a small processor of that kind if not.

    Raises:
        InputError: one of them cannot be written.
    """
    found = isa_of(isa)
    sized = machine or tuned(machine_of(_NOMINAL[isa]))
    rows: list[_Written] = []
    others = []
    for one in kernels:
        if isinstance(one, Wanted):
            rows.append(_Written(one, *ort_kernel(one, found, sized)))
        else:
            others.append(_other(one, found))
    return _joined(rows, others)


def _other(one: Other, isa: Isa) -> tuple[OrtOther, tuple[str, ...]]:
    """A kernel of a family as a library takes it, and what the compiler needs to be told."""
    family = family_of(one.op)
    if family is None:
        raise InputError(f"no kernel is written for '{one.op}'")
    made: tuple[OrtOther, tuple[str, ...]] = family.entry(*one, isa)
    return made


def _joined(written: Sequence[_Written], others: Sequence[tuple[OrtOther, tuple[str, ...]]] = ()) -> Source:
    flags = dict.fromkeys(
        flag for each in (*(one.flags for one in written), *(f for _, f in others)) for flag in each
    )
    text = library_text([one.kernel for one in written], [one for one, _ in others])
    kernels = tuple((one.wanted, one.kernel) for one in written)
    return Source(text, tuple(flags), kernels, tuple(one for one, _ in others))


def isa_of(name: str) -> Isa:
    """An instruction set by name; "native" is the widest that this processor has.

    Raises:
        InputError: there is none of that name.
    """
    wanted = this_machine().isas[0] if name == "native" else name
    known = (AVX512_BF16, *_KNOWN) if name == "native" and has_pairs() else _KNOWN
    for isa in known:
        if isa.name == wanted:
            return isa
    raise InputError(f"unknown instruction set '{name}'", remedy=f"choose one of {', '.join(ISAS)}")


def runs_here(name: str) -> bool:
    """Whether this processor has an instruction set."""
    return name == "native" or isa_of(name).name in this_machine().isas


def ort_kernel(wanted: Wanted, isa: Isa, machine: Machine) -> tuple[OrtKernel, tuple[str, ...]]:
    """A kernel as a library takes it, with algorithms by size, and what the compiler needs to be told.

    Raises:
        InputError: no kernel can be written for it.
    """
    from tautomer.codegen.kernel import kernel_for

    definition = wanted.definition
    if wanted.element_type not in DTYPE_OF:
        raise InputError(f"no kernel is written for {wanted.element_type}", where=definition.key)
    dtype = DTYPE_OF[wanted.element_type]
    kernel = kernel_for(definition, dtype=dtype, isa=isa)
    variants, flags = [], dict.fromkeys(kernel.flags)
    for one in thresholds_of(definition, dtype, machine):
        other = kernel_for(definition, dtype=dtype, isa=isa, algorithm=one.algorithm)
        flags |= dict.fromkeys(other.flags)
        variants.append(OrtVariant(other.symbol, other.text, one, has_parts(definition.key, one.algorithm)))
    entry = OrtKernel(
        definition.op,
        kernel.symbol,
        kernel.text,
        wanted.element_type,
        kernel.operands,
        tuple((name, definition.parameters[name]) for name in kernel.parameters),
        kernel.kinds,
        wanted.axes if kernel.rows and definition.rows != "groups" else 0,
        definition.rows == "groups",
        tuple((name, str(value)) for name, value in definition.attributes.items()),
        tuple(variants),
        tuple("column" if name in definition.per_row else "full" for name in definition.results),
    )
    return entry, tuple(flags)
