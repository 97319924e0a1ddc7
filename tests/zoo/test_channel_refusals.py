"""What looks like an operation with numbers of channels or neurons, and is none."""

import pytest

import tautomer

from .channels import REFUSED, SHAPE
from .unary import of_x


@pytest.mark.parametrize("name", REFUSED)
def test_near_miss_is_refused(name: str) -> None:
    op, step, image = REFUSED[name]
    model = of_x(step, opset=17, **({"shape": SHAPE} if image else {}))
    assert op not in [one.op for one in tautomer.inspect(model)]
