"""Names of torch operators go with what they compute: what torch keeps under a name must stay right."""

from __future__ import annotations

import hashlib

import pytest

from tautomer.codegen.expression import reachable
from tautomer.codegen.torch.library import library_text
from tautomer.codegen.torch.operators import OPERATORS, Signature, TorchOperator, backward, forward

# name -> what is computed under it. A change here without another version would go unseen by graphs that
# torch has kept, which know the name only.
MEANINGS = {
    "layer_norm_v1": "125a48f84d8e2399",
    "layer_norm_backward_v1": "f38b7ad9e9526786",
    "rms_norm_v1": "6f7434dc649f0400",
    "rms_norm_backward_v1": "d0ae943a90156f8f",
    "crms_norm_v1": "0d1e30961ecc4d04",
    "crms_norm_backward_v1": "8ebb19b063f167b8",
    "add_layer_norm_v1": "879bc1969a5f4bd6",
    "add_layer_norm_backward_v1": "2d69c088f467d76c",
    "add_rms_norm_v1": "417e103093d52b3e",
    "add_rms_norm_backward_v1": "51e8bfe2cc3cafcc",
    "softmax_v1": "7c9f9d77aa7db8ef",
    "softmax_backward_v1": "bb933501c8f101ac",
    "log_softmax_v1": "9245422e9dcd19f2",
    "log_softmax_backward_v1": "42aafeb21baf1a58",
    "gelu_v1": "50f38626c890f495",
    "gelu_backward_v1": "44fa5161f29c7353",
    "gelu_tanh_v1": "45e9c76bf0d25b95",
    "gelu_tanh_backward_v1": "141b47492ce748b6",
    "silu_v1": "7c9cb9a4ea0cb520",
    "silu_backward_v1": "211f86d51f1d7870",
    "squared_relu_v1": "e4729d3ff483b91c",
    "squared_relu_backward_v1": "fba29021b1109dac",
    "swiglu_v1": "716d8fbeae572be8",
    "swiglu_backward_v1": "f69cf5754580d7dd",
    "geglu_v1": "40f3f69b1850612e",
    "geglu_backward_v1": "dea48d0bbc3f7588",
    "geglu_tanh_v1": "8fe34c30e90d60b8",
    "geglu_tanh_backward_v1": "ad95a462f9b35450",
    "reglu_v1": "d2ef46300daf0a7f",
    "reglu_backward_v1": "1e754aad51404295",
}


def digest(signature: Signature) -> str:
    """The schema and the formula."""
    program = signature.program
    parts = [signature.schema, *signature.outputs]
    parts += [
        f"{node.op} {node.name} {node.value.hex()} {[one.index for one in node.args]}"
        for node in reachable(program.results)
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda one: one.name)
@pytest.mark.parametrize("direction", [forward, backward], ids=["forward", "backward"])
def test_another_formula_needs_another_version(operator: TorchOperator, direction: object) -> None:
    signature = forward(operator) if direction is forward else backward(operator)
    assert MEANINGS.get(signature.name) == digest(signature), (
        "raise TorchOperator.version, and note the digest"
    )


def test_the_library_is_the_same_every_time() -> None:
    assert library_text() == library_text()
    for operator in OPERATORS:
        for part in ("", "kernel", "backward"):
            assert f'm.impl("{operator.named(part)}"' in library_text()
