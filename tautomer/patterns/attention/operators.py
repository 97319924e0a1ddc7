"""The operator that attention becomes in an ONNX graph: its name, its inputs and its attributes.

An operator of the domain has no optional inputs and one function body, so each form has a name of its own,
which says the form:

    ScoreAttention_softmax_hhhh                    q, k, v [B, H, N, d] -> y [B, H, N, e]
    ScoreAttention_softmax_additive_causal_nnnn    q, k, v, mask; all four tensors as [B, N, H, d]
    ScoreAttention_softplus_reweighted15_hthh      k as [B, H, d, M]

The last part has a letter for each of q, k, v and y: how its axes lie. So the transposes around attention are
part of it, and cost nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tautomer.errors import InputError
from tautomer.patterns.attention.form import AttentionForm
from tautomer.patterns.attention.score_functions import SCORE_FUNCTIONS

PREFIX = "ScoreAttention_"
# Letter -> which axis of [B, H, N, d] stands at each place.
LAYOUTS: dict[str, tuple[int, int, int, int]] = {"h": (0, 1, 2, 3), "n": (0, 2, 1, 3), "t": (0, 1, 3, 2)}
_CAUSAL = {"": "", "end": "causal", "start": "causalstart"}
_SCORES = "|".join(sorted(SCORE_FUNCTIONS, key=len, reverse=True))
_NAME = re.compile(
    rf"{PREFIX}(?P<score>{_SCORES})(?P<power>[1-9][0-9]?)?(?P<mask>_additive|_boolean)?"
    r"(?P<causal>_causalstart|_causal)?(?P<window>_window)?(?P<lengths>_lengths)?(?P<alibi>_alibi)?"
    r"(?P<softcap>_softcap)?(?P<sink>_sink)?(?P<empty>_zero|_mean)?_(?P<layouts>[hnt]{3}[hn])"
)


@dataclass(frozen=True)
class AttentionOperator:
    """A form of attention as an operator; the element type is that of its inputs.

    Attributes:
        form: its dtype and head dimensions do not matter here.
        layouts: letters of LAYOUTS for q, k, v and y.
    """

    form: AttentionForm
    layouts: str = "hhhh"

    def __post_init__(self) -> None:
        """Raises InputError for layouts that do not exist."""
        if not re.fullmatch("[hnt]{3}[hn]", self.layouts):
            raise InputError(f"there are no layouts '{self.layouts}'", where="attention")

    @property
    def name(self) -> str:
        """Its op_type in the domain `tautomer`."""
        form = self.form
        flags = [name for name in ("window", "lengths", "alibi", "softcap", "sink") if getattr(form, name)]
        empty = "" if form.empty == "nan" else form.empty
        score = f"{form.score}{form.power or ''}"
        parts = (score, form.mask, _CAUSAL[form.causal], *flags, empty, self.layouts)
        return PREFIX + "_".join(filter(None, parts))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs in order: mask of the type of q, or boolean; lengths int64; slopes and sink float32."""
        form = self.form
        there = {"mask": bool(form.mask), "lengths": form.lengths, "slopes": form.alibi, "sink": form.sink}
        return ("q", "k", "v", *(name for name, is_there in there.items() if is_there))

    @property
    def attributes(self) -> dict[str, type]:
        """The attributes, all of which a node has, and the type of each."""
        form = self.form
        found: dict[str, type] = {"scale": float, "bias": float}
        found |= {"softcap": float} if form.softcap else {}
        found |= {"window": int} if form.window else {}
        return found | ({"free": int} if form.power else {})


def operator_named(op_type: str) -> AttentionOperator | None:
    """The operator that a name of the domain `tautomer` says; None for any other name."""
    found = _NAME.fullmatch(op_type)
    if found is None:
        return None
    causal = {name: key for key, name in _CAUSAL.items()}
    form = {
        "score": found["score"],
        "power": int(found["power"] or 0),
        "mask": (found["mask"] or "").removeprefix("_"),
        "causal": causal[(found["causal"] or "").removeprefix("_")],
        "empty": (found["empty"] or "_nan").removeprefix("_"),
    }
    form |= {name: bool(found[name]) for name in ("window", "lengths", "alibi", "softcap", "sink")}
    try:
        return AttentionOperator(AttentionForm(**form), found["layouts"])  # type: ignore[arg-type]
    except InputError:
        return None


def form_text(form: AttentionForm) -> str:
    """A form as the operator of torch names it: the part of the name between the prefix and the layouts."""
    return AttentionOperator(form).name.removeprefix(PREFIX).removesuffix("_hhhh")


def form_named(text: str) -> AttentionForm | None:
    """The form that such a text says; None where it says none."""
    operator = operator_named(f"{PREFIX}{text}_hhhh")
    return None if operator is None else operator.form
