"""Without python-flint all runs that asks for no ball arithmetic; what asks for it says the remedy."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tautomer.errors import MissingToolError
from tautomer.verify.ball import Ball
from tautomer.verify.flint_library import flint


@pytest.fixture
def no_flint(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it is not installed."""
    monkeypatch.setitem(sys.modules, "flint", None)
    for name in tuple(vars(flint)):  # what was looked up before
        monkeypatch.delattr(flint, name)


class Normed(torch.nn.Module):
    """A norm that is written out, and one whose stream can be centred."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        x = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
        found: torch.Tensor = self.second(self.norm(self.first(x)))
        return found


def test_nothing_imports_it_ahead() -> None:
    modules = "tautomer.torch, tautomer.runtime.torch.backend, tautomer.runtime.equivalence"
    program = f"import sys; sys.modules['flint'] = None; import {modules}"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


@torch.no_grad()
def test_the_backend_runs_and_evidence_names_the_remedy(no_flint: None, fresh_dynamo: None) -> None:
    with pytest.raises(MissingToolError, match="pip install python-flint"):
        Ball().constant(1.0)
    model, x = Normed().eval(), torch.randn(3, 8)
    options = {"strict": True, "then": "eager", "norm": "rms"}
    unverified = torch.compile(model, backend="tautomer", options={**options, "verify": False})
    torch.testing.assert_close(unverified(x), model(x))
    torch._dynamo.reset()
    with pytest.raises(Exception, match="pip install python-flint"):
        torch.compile(model, backend="tautomer", options=options)(x)
