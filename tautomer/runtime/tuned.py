"""What `tautomer tune` found on this machine: kept per processor, and believed only when it makes sense."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tautomer._version import __version__
from tautomer.machine import Machine, Variant
from tautomer.runtime import cache_folder, own_file
from tautomer.runtime.cache_folder import UnusableFolderError, say_once
from tautomer.target import Target

FORMAT = 1
_LARGEST = 1 << 50  # bytes or elements: a larger number is a mistake
_RATIOS = (0.01, 100.0)
Gains = dict[str, tuple[tuple[int, float], ...]]


@dataclass(frozen=True)
class Tuning:
    """What was measured.

    Attributes:
        choices: operation and type -> algorithms beside the usual one, as `Machine.tuned` has it.
        gains: operator -> elements and how many times faster ours is than onnxruntime's, by elements; empty
            where there is no onnxruntime.
    """

    choices: tuple[tuple[str, tuple[Variant, ...]], ...]
    gains: Gains

    def as_json(self) -> dict[str, Any]:
        """The tuning as an object of a JSON document."""
        choices = {name: [asdict(one) for one in variants] for name, variants in self.choices}
        return {"choices": choices, "gains": {op: list(map(list, pairs)) for op, pairs in self.gains.items()}}


def keep(machine: Machine, tuning: Tuning) -> Path:
    """Puts it into the cache folder; the file.

    Raises:
        UnusableFolderError: others may write there.
        OSError: it cannot be written.
    """
    document = {"format": FORMAT, "tautomer": __version__, "fingerprint": machine.fingerprint}
    own_file.write(_place(machine), {**document, **tuning.as_json()})
    return _place(machine)


def recalled(machine: Machine) -> Tuning | None:
    """What was found for this processor, or None; of a file that is not to be believed one line is said."""
    if not machine.fingerprint:
        return None
    try:
        document = own_file.read(_place(machine))
        expected = {"format": FORMAT, "tautomer": __version__, "fingerprint": machine.fingerprint}
        if any(document[key] != value for key, value in expected.items()):
            raise ValueError("it is of another version or processor")
        choices = tuple((name, _variants(name, found)) for name, found in document["choices"].items())
        return Tuning(choices, {op: _pairs(pairs) for op, pairs in document["gains"].items()})
    except FileNotFoundError:
        return None
    except (OSError, UnusableFolderError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        say_once("what was tuned for this machine is damaged or of another version, and is ignored")
        return None


def tuned(machine: Machine) -> Machine:
    """The machine with the choices that were measured on it."""
    found = recalled(machine)
    return replace(machine, tuned=found.choices) if found else machine


def with_gains(target: Target, machine: Machine) -> Target:
    """A target for our kernels with the gains that were measured on a machine, for operators it knows."""
    found = recalled(machine) if target.gains else None
    if found is None:
        return target
    return replace(target, gains={op: found.gains.get(op, pairs) for op, pairs in target.gains.items()})


def _place(machine: Machine) -> Path:
    return cache_folder.location().with_name("tunings") / f"{machine.fingerprint}.json"


def _variants(name: str, found: list[dict[str, Any]]) -> tuple[Variant, ...]:
    """Checked one by one: they become part of C++ texts."""
    # here, so that `tautomer doctor` is fast where nothing was tuned
    from tautomer.codegen.algorithms import algorithms
    from tautomer.patterns.operation import definitions

    key, _, dtype = name.rpartition(" ")
    if key not in {one.key for one in definitions()}:
        raise ValueError("no such operation")
    variants = tuple(Variant(**one) for one in found)
    for one in variants:
        sizes = (one.least_bytes, one.least_columns, one.multiple)
        if one.algorithm not in algorithms(key, dtype) or type(one.in_place) is not bool:
            raise ValueError("no such algorithm")
        if not all(type(size) is int and 0 <= size < _LARGEST for size in sizes) or one.multiple == 0:
            raise ValueError("a size that is none")
    return variants


def _pairs(pairs: list[list[Any]]) -> tuple[tuple[int, float], ...]:
    checked = []
    for elements, ratio in pairs:
        if type(elements) is not int or not 0 < elements < _LARGEST:
            raise ValueError("a number of elements that is none")
        if not isinstance(ratio, float) or not _RATIOS[0] < ratio < _RATIOS[1]:
            raise ValueError("a ratio that cannot be")
        checked.append((elements, ratio))
    return tuple(sorted(checked))
