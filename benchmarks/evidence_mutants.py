"""How many planted mistakes each kind of check finds, and how many correct rewrites it rejects.

A check that compares numbers accepts when |a - b| <= atol + rtol |a| everywhere; the exact one has no
tolerance. All see the same models and the same inputs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify import exact
from tautomer.verify.algebra import check
from tautomer.verify.interpreter import run
from tautomer.verify.single import Float32

_REASONS = """\
With the stored weights no row of the random regime has its largest score in the second block, so the mistakes
in rescaling it compute the same numbers there. At rtol 1e-9 float64 rejects correct rewrites because a
constant that was rounded to float32 (0.79788458 for sqrt(2/pi)) is another number than the one in the
operator; the exact checks read it as the number that it stands for. The alarms of the prime field are the
two forms that write GELU as x / (1 + e^(-2u)): there tanh is known by its symmetry only, not by exp.
"""
Same = Callable[[ir.Model, ir.Model], bool]


def _mutants() -> Any:
    tests = str(Path(__file__).parent.parent / "tests" / "verify")
    if tests not in sys.path:
        sys.path.insert(0, tests)
    import mutants

    return mutants


def _exactly(make_exact: Callable[[], Any], seed: int | None) -> Same:
    def same(a: ir.Model, b: ir.Model) -> bool:
        return check(a, b, _mutants().inputs(), make_exact, random_weights=seed).equal is True

    return same


def _closely(domain: Any, rtol: float, atol: float) -> Same:
    def same(a: ir.Model, b: ir.Model) -> bool:
        x, y = (domain.concrete(run(m, domain, _mutants().inputs())["logits"]) for m in (a, b))
        return bool(np.allclose(y, x, rtol=rtol, atol=atol))

    return same


def checks() -> dict[str, Same]:
    """Every check, by its name in the table."""
    found: dict[str, Same] = {
        "algebra, ball arithmetic, random weights": _exactly(exact.BallArithmetic, 1),
        "algebra, ball arithmetic, stored weights": _exactly(exact.BallArithmetic, None),
    }
    field = getattr(exact, "FieldArithmetic", None)
    if field is not None:
        found["algebra, prime field, random weights"] = _exactly(lambda: field(1), 1)
        found["algebra, prime field, stored weights"] = _exactly(lambda: field(1), None)
    return found | {
        "float32, rtol 1e-3, atol 1e-5": _closely(Float32(), 1e-3, 1e-5),
        "float32, rtol 1e-5, atol 1e-5": _closely(Float32(), 1e-5, 1e-5),
        "float64, rtol 1e-6": _closely(Float64(), 1e-6, 0.0),
        "float64, rtol 1e-9": _closely(Float64(), 1e-9, 0.0),
    }


def section() -> Iterator[str]:
    """The kill table."""
    m = _mutants()
    total, forms = len(m.MUTANTS), len(m.FORMS)
    hidden = [mutant.name for mutant in m.MUTANTS if mutant.hidden]
    rows, survivors = list[str](), dict[str, list[str]]()
    tried = checks()
    tallies: dict[str, list[str]] = {name: [] for name in tried}
    for regime in m.REGIMES:
        original = m.load(m.build(m.ORIGINAL, regime))
        wrong = {one.name: m.load(one.model(regime)) for one in m.MUTANTS}
        right = {name: m.load(m.build(form, regime)) for name, form in m.FORMS.items()}
        for name, same in tried.items():
            alive = [one for one, model in wrong.items() if _accepts(same, original, model)]
            alarms = [one for one, model in right.items() if not _accepts(same, original, model)]
            tallies[name].append(f"{total - len(alive)} | {len(alarms)}")
            survivors.setdefault(name, []).append(", ".join(alive) or "none")
            print(f"mutants: {regime}: {name}: {total - len(alive)} killed, alarms {alarms}", flush=True)
    rows += [f"| {name} | {' | '.join(cells)} |" for name, cells in tallies.items()]
    yield from (
        "## Planted mistakes",
        "",
        f"{total} mutants of {forms} correct rewrites of a transformer (2 layers, 2 heads, 8 channels), in",
        "three regimes: random; massive (channels of 3000, offsets of 500); plain (biases 0, gains 1).",
        f"Killed, of {total}, and false alarms, of the {forms} correct rewrites:",
        "",
        "| check | random | alarms | massive | alarms | plain | alarms |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "With plain weights these compute the same function as the original, so nothing can kill them there:",
        f"{', '.join(hidden)}.",
        "",
        _REASONS,
        "What survives, by regime:",
        "",
        *(
            f"- {name}: {'; '.join(f'{r}: {s}' for r, s in zip(m.REGIMES, lists, strict=True))}"
            for name, lists in survivors.items()
        ),
        "",
    )


def _accepts(same: Same, a: ir.Model, b: ir.Model) -> bool:
    try:
        with np.errstate(all="ignore"):
            return same(a, b)
    except Exception:
        return False
