"""Options: parsed strictly, refused with what would be right, passed on to inductor."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest
import torch
from backend_models import Block, Stream, close, compiled, tokens

from tautomer.errors import InputError
from tautomer.runtime.torch.backend import tautomer
from tautomer.runtime.torch.options import Options

pytestmark = pytest.mark.usefixtures("fresh_dynamo")


def test_without_options_the_graph_goes_to_inductor() -> None:
    assert Options.parse() == Options() == Options.parse({}, "default")
    assert Options().then == "inductor"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"nrom": "rms"},
            "unknown option 'nrom'; the options are then, norm, merge_products",
        ),
        ({"relu_attention": True}, "another score function is a change of the model and no rewrite of it"),
        ({"then": "tvm"}, "'then' cannot be 'tvm'; choose one of inductor, aot_eager, eager"),
        ({"norm": "layer"}, "'norm' cannot be 'layer'; choose one of auto"),
        ({"norm": ["rms"]}, "'norm' cannot be"),
        ({"strict": "yes"}, "'strict' cannot be 'yes'; choose True or False"),
        ({"verify": 1}, "'verify' cannot be 1"),
        ({"inductor": "fast"}, "'inductor' cannot be 'fast'"),
        ({"inductor": {"max_autotoon": True}}, "inductor has no setting 'max_autotoon'"),
        ({"then": "eager", "inductor": {"max_autotune": True}}, "the graph goes to eager"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Options.parse(given)


def test_modes_become_settings_and_explicit_settings_win() -> None:
    assert Options.parse(mode="max-autotune-no-cudagraphs").inductor["max_autotune"] is True
    both = Options.parse({"inductor": {"max_autotune": False}}, "max-autotune-no-cudagraphs")
    assert both.inductor["max_autotune"] is False
    with pytest.raises(InputError, match="fastest"):
        Options.parse(mode="fastest")
    with pytest.raises(InputError, match="goes to eager"):
        Options.parse({"then": "eager"}, "max-autotune-no-cudagraphs")


def test_a_wrong_option_stops_the_first_call() -> None:
    model = torch.compile(Block(), backend=tautomer, options={"nrom": "rms"})
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="unknown option 'nrom'"):
        model(torch.randn(2, 16))


def test_settings_reach_inductor() -> None:
    seen = []

    def note(graph: torch.fx.Graph) -> None:
        seen.append(torch._inductor.config.epilogue_fusion)

    settings = {"epilogue_fusion": False, "post_grad_custom_pre_pass": note}
    x = torch.randn(2, 3)
    close(compiled(torch.relu, "inductor", inductor=settings)(x), torch.relu(x))
    assert seen == [False]


def test_the_name_is_registered() -> None:
    if not any(each.name == "tautomer" for each in entry_points(group="torch_dynamo_backends")):
        pytest.skip("the installed metadata has no entry point of that name: install the package again")
    assert "tautomer" in torch._dynamo.list_backends()
    model = Stream()
    with torch.no_grad():
        result = torch.compile(model, backend="tautomer", options={"then": "eager"})(tokens())
        close(result, model(tokens()))
