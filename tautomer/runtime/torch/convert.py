"""convert: the LayerNorm modules of a model become RMSNorm modules, in place.

    1^T x = 0   =>   LayerNorm(x) = RMSNorm(x)

where the tensors that write to a residual stream are centred, so that what norms read has mean zero.
Names, shapes and identities of parameters stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from tautomer.errors import InputError
from tautomer.remarks import Remark
from tautomer.runtime.torch.centring import Centring
from tautomer.runtime.torch.convert_apply import apply_plan
from tautomer.runtime.torch.convert_check import Evidence, Examiner
from tautomer.runtime.torch.convert_plan import OP, RULE, plan_module
from tautomer.runtime.torch.convert_trace import trace
from tautomer.runtime.torch.example import example_of
from tautomer.runtime.torch.keep_centred import Kept, keep_centred
from tautomer.runtime.torch.module_tensors import require_convertible
from tautomer.runtime.torch.norm_modules import CRMSNorm, RMSNorm

_KINDS: Mapping[str, type[RMSNorm]] = {"rms": RMSNorm, "crms": CRMSNorm}


@dataclass(frozen=True)
class Conversion:
    """What `convert` did.

    Attributes:
        converted: names of the modules that were replaced.
        centrings: the parameters and buffers whose mean was taken out, and along which axes.
        at_run_time: names of the modules whose argument or result is centred by a hook.
        remarks: one for each layer normalisation, with the reason where it stays; one for each hook.
        evidence: what was measured; None where nothing was converted, or it was not asked for.
    """

    converted: tuple[str, ...] = ()
    centrings: tuple[Centring, ...] = ()
    at_run_time: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()
    evidence: Evidence | None = None

    def keep_centred(self, model: nn.Module, optimizer: Optimizer, *, exact: bool = True) -> Kept:
        """Lets the converted model follow the original's trajectory in training.

        Gradients are projected as they come, and weights after each step: exact for SGD, AdamW, Adam without
        weight decay, and every other optimizer whose update depends on gradients alone, but for a multiple of
        the weight; and without element-wise dropout in the stream.

        Args:
            model: the converted model, before it is wrapped for data-parallel training.
            optimizer: of its parameters.
            exact: False also takes what is known to follow another trajectory: the weights stay centred, so
                that the model stays the function of its weights that the original is of them in evaluation.

        Returns:
            What removes the hooks again.

        Raises:
            InputError: the trajectory would be another.
        """
        return keep_centred(model, self.centrings, optimizer, exact=exact)

    def __str__(self) -> str:
        """A line for each remark."""
        lines = [
            f"{len(self.converted)} layer normalisations converted, {len(self.centrings)} tensors centred"
        ]
        for remark in self.remarks:
            hint = f"\n          hint: {remark.hint}" if remark.hint else ""
            lines.append(f"{remark.kind:8}  {remark.node}: {remark.reason}{hint}")
        return "\n".join(lines)


def convert(
    model: nn.Module, norm: Literal["rms", "crms"] = "rms", example_inputs: Any = None, *, verify: bool = True
) -> Conversion:
    """Replaces the layer normalisations of a model whose stream can be centred, in place.

    A LayerNorm becomes an RMSNorm (or CRMSNorm) with the same `weight`, `bias` and `eps`. Parameters keep
    their names, shapes and identity, tied ones stay tied, and `requires_grad` stays. So checkpoints are
    interchangeable: one of the converted model loads into an unconverted one, which is the same function
    then, and `load_state_dict` of a converted model takes checkpoints from before and after a conversion,
    since it centres what was loaded.

    The outputs of the model stay what they were, for all that the traced call returns. What it does not
    return, such as hidden states that another call would ask for, may have another mean.

    Args:
        model: any module that torch.export takes; a transformers model, for instance. It may be in training
            mode, and is left in it.
        norm: what layer normalisations become.
        example_inputs: a tensor, a tuple of arguments, or a dict of them by name; made from the configuration
            for transformers models when left out.
        verify: False does without the comparison of outputs before and after.

    Raises:
        InputError: the model cannot be exported or run, or has parameters that cannot be centred. It is as it
            was.
        CheckFailedError: the converted model is another function. The model is as it was.
    """
    if norm not in _KINDS:
        raise InputError(f"unknown norm '{norm}'", remedy=f"choose one of {', '.join(_KINDS)}")
    if not isinstance(model, nn.Module):
        raise InputError(f"a {type(model).__name__} is no torch.nn.Module", remedy="give the module itself")
    done = [name for name, module in model.named_modules() if isinstance(module, RMSNorm)]
    if done:
        reason = "the model was converted before"
        return Conversion(remarks=tuple(Remark("missed", RULE, OP, name, reason) for name in done))
    require_convertible(model)
    example = example_of(model, example_inputs)
    plan = plan_module(model, trace(model, example.args, example.kwargs))
    if not plan.norms:
        remarks = plan.remarks or (Remark("missed", RULE, OP, "", "the model has no layer normalisation"),)
        return Conversion(remarks=remarks)
    kind, evidence = _KINDS[norm], None
    if verify:
        examiner = Examiner(model, example)
        perturbed = examiner.perturbed(plan.centrings)
        difference = examiner.shifted_copy(plan, kind)
    applied = apply_plan(model, plan, kind, example, can_be_undone=verify)
    if verify:
        try:
            evidence = Evidence(difference, examiner.outputs(perturbed), examiner.means(plan.norms))
        except BaseException:
            applied.take_back()
            raise
    return Conversion(
        tuple(module.name for module in plan.norms),
        plan.centrings,
        tuple(boundary.module for boundary in plan.boundaries),
        plan.remarks,
        evidence,
    )
