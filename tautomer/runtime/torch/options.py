"""What may be given to `torch.compile(model, backend="tautomer", options={...}, mode=...)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from tautomer.errors import InputError
from tautomer.model_changes import model_change
from tautomer.passes.pipeline import Choices
from tautomer.passes.recentre import Norm
from tautomer.runtime.torch.compat import inductor_config, list_mode_options

Then = Literal["inductor", "aot_eager", "eager"]


@dataclass(frozen=True)
class Options:
    """The options of the backend, by name.

    Attributes:
        then: the backend that gets the rewritten graph.
        norm: the form of layer normalisations, as in `tautomer.optimize`.
        merge_products: as there.
        defer_scale: as there.
        kernels: whether inductor gets our kernels, in inference, where they were measured to gain.
        verify: whether rewrites are checked: each exactly on a few rows, the whole graph on the example
            inputs, which takes a few forward passes in float64.
        strict: whether a graph that cannot be rewritten is an error; otherwise it is handed on as it was,
            with a warning.
        inductor: settings of inductor for this compilation, by their names in torch._inductor.config.
    """

    then: Then = "inductor"
    norm: Norm = "auto"
    merge_products: bool = False
    defer_scale: bool = False
    kernels: bool = True
    verify: bool = True
    strict: bool = False
    inductor: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, choices in (("then", get_args(Then)), ("norm", get_args(Norm))):
            if getattr(self, name) not in choices:
                raise _refused(name, getattr(self, name), f"choose one of {', '.join(choices)}")
        for name in ("merge_products", "defer_scale", "kernels", "verify", "strict"):
            if not isinstance(getattr(self, name), bool):
                raise _refused(name, getattr(self, name), "choose True or False")
        if not isinstance(self.inductor, Mapping):
            raise _refused("inductor", self.inductor, "give settings by name")
        known = inductor_config.get_config_copy()
        for name in self.inductor:
            if name not in known:
                raise InputError(
                    f"inductor has no setting '{name}'", remedy="torch._inductor.config lists them"
                )
        if self.inductor and self.then != "inductor":
            raise InputError(
                f"settings or a mode of inductor, but the graph goes to {self.then}",
                remedy="leave one of them out",
            )

    @property
    def asked(self) -> Choices:
        """The rewrites that the user asks for."""
        return Choices(self.norm, self.merge_products, self.defer_scale)

    @classmethod
    def parse(cls, given: Mapping[str, Any] | None = None, mode: str | None = None) -> Options:
        """The options from what torch.compile passes on.

        Args:
            given: its `options`.
            mode: its `mode`, one of inductor's.

        Raises:
            InputError: an unknown name, or a value that the option cannot have.
        """
        known = [each.name for each in fields(cls)]
        for name in given or ():
            if name not in known:
                what = model_change(name) or f"unknown option '{name}'"
                raise InputError(what, remedy=f"the options are {', '.join(known)}")
        options = cls(**(given or {}))
        patches = _of_mode(mode)
        return cls(**{**vars(options), "inductor": {**patches, **options.inductor}}) if patches else options


def _refused(name: str, value: object, remedy: str) -> InputError:
    return InputError(f"option '{name}' cannot be {value!r}", remedy=remedy)


def _of_mode(mode: str | None) -> dict[str, Any]:
    try:
        return dict(list_mode_options(mode or "default"))
    except RuntimeError as error:
        raise InputError(str(error), remedy="torch.compile documents its modes") from error
