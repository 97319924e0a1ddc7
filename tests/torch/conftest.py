"""Kernels for torch, built once for all tests that use them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tautomer.codegen.torch.operators import operator_of
from tautomer.errors import MissingToolError
from tautomer.runtime import compiler


@pytest.fixture(scope="session")
def kernels() -> None:
    """Skips where there is no compiler; the kernels come from the cache of the user, or are put there."""
    try:
        compiler.find()
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture
def attached(kernels: None, request: pytest.FixtureRequest) -> str:
    """An operator, by the name that the test is parametrized with, ready for float32."""
    from tautomer.runtime.torch.ops_library import attach

    assert attach(operator_of(request.param), "float32") == ""
    return str(request.param)


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    """Nothing compiled before counts, and nothing stays."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()
