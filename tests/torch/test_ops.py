"""Kernels as operators of torch: values, gradients, and what torch may do with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tautomer.codegen.torch.operators import OPERATORS, backward, forward, kernel, operator_of
from tautomer.errors import InputError
from tautomer.patterns.operation import ROW_OPERANDS
from tautomer.runtime.torch import ops
from tautomer.runtime.torch.ops_library import attach
from tautomer.runtime.torch.ops_meaning import meaning
from tautomer.runtime.torch.ops_rules import overload

NAMES = [one.name for one in OPERATORS]
BLOCK = 2048  # elements after which a sum goes over to double precision
every = pytest.mark.parametrize("attached", NAMES, indirect=True)
# A norm, one with two outputs, a softmax and a gated unit stand for the rest where the mechanism is the same
FEW = ["layer_norm", "add_rms_norm", "softmax", "swiglu"]
few = pytest.mark.parametrize("attached", FEW, indirect=True)


def inputs(name: str, *shape: int, dtype: torch.dtype = torch.float32, grad: bool = False) -> list[Any]:
    """Tensors and numbers for an operator; gains and biases are not 1 and 0, numbers not the defaults."""
    torch.manual_seed(sum(shape))
    program = forward(operator_of(name)).program
    tensors: list[Any] = []
    for operand in ("x", *program.operands):
        own = shape[-1:] if operand in ROW_OPERANDS else shape
        tensors.append((torch.randn(own, dtype=torch.float64) * 1.5).to(dtype).requires_grad_(grad))
    return tensors + [0.3] * len(program.parameters)


def op(name: str) -> Any:
    return overload(forward(operator_of(name)))


def widened(arguments: list[Any]) -> list[Any]:
    """The same in float64, as leaves of a graph of their own."""
    return [
        one.detach().double().requires_grad_() if isinstance(one, torch.Tensor) else one for one in arguments
    ]


def in_float64(name: str, arguments: list[Any]) -> tuple[torch.Tensor, ...]:
    """By the meaning of the operator in float64, which test_meaning compares with torch's own operators."""
    return outputs_of(meaning(forward(operator_of(name)))(*widened(arguments)))


def outputs_of(found: Any) -> tuple[torch.Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def close(got: torch.Tensor, right: torch.Tensor, ulps: float, dtype: torch.dtype = torch.float32) -> None:
    """Relative to the largest of the row: rounding errors of sums and maxima are shared by the whole row."""
    assert got.dtype == dtype and got.shape == right.shape
    if got.numel():
        scale = right.abs().amax(-1, keepdim=True) if right.dim() else right.abs()
        off = (got.double() - right).abs() - ulps * torch.finfo(dtype).eps * scale
        assert off.max() <= torch.finfo(dtype).tiny, float(off.max())


@every
@pytest.mark.parametrize("columns", [1, 7, 8, 9, BLOCK - 1, BLOCK, BLOCK + 1], ids=lambda n: f"n{n}")
def test_values(attached: str, columns: int) -> None:
    arguments = inputs(attached, 3, 2, columns)
    for got, right in zip(outputs_of(op(attached)(*arguments)), in_float64(attached, arguments), strict=True):
        close(got, right, 16)  # four functions of four units each


@few
@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3)], ids=str)
def test_nothing(attached: str, shape: tuple[int, ...]) -> None:
    arguments = inputs(attached, *shape, grad=True)
    found = outputs_of(op(attached)(*arguments))
    assert all(one.shape == shape for one in found)
    sum(one.sum() for one in found).backward()  # type: ignore[union-attr]
    for one in arguments:
        if isinstance(one, torch.Tensor):
            assert one.grad is not None and one.grad.shape == one.shape and not one.grad.any()


@few
@pytest.mark.parametrize("form", ["transposed", "strided", "expanded", "offset"])
def test_layouts(attached: str, form: str) -> None:
    # an element past an alignment, which a vector load must not expect
    change: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "transposed": lambda t: t.t().contiguous().t(),
        "strided": lambda t: t.repeat_interleave(2, -1)[..., ::2],
        "expanded": lambda t: t[:1].expand(t.shape),
        "offset": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
    }
    given = inputs(attached, 5, 19)
    changed = [change[form](a) if isinstance(a, torch.Tensor) and a.dim() > 1 else a for a in given]
    alike = [
        a.clone(memory_format=torch.contiguous_format) if isinstance(a, torch.Tensor) else a for a in changed
    ]
    for got, right in zip(outputs_of(op(attached)(*changed)), outputs_of(op(attached)(*alike)), strict=True):
        assert got.is_contiguous() and torch.equal(got, right)


@every
@pytest.mark.parametrize("shape", [(3, 1), (5, 33), (300, 9)], ids=str)
def test_gradients(attached: str, shape: tuple[int, ...]) -> None:
    arguments = inputs(attached, *shape, grad=True)
    found = outputs_of(op(attached)(*arguments))
    wide = widened(arguments)
    right = outputs_of(meaning(forward(operator_of(attached)))(*wide))
    seeds = [torch.randn_like(one) for one in found]
    torch.autograd.backward(found, seeds)
    torch.autograd.backward(right, [one.double() for one in seeds])
    for got, exact in zip(arguments, wide, strict=True):
        if isinstance(got, torch.Tensor):
            # relative to the largest there is: a gradient is a difference of what may be larger than it
            worst = (got.grad.double() - exact.grad).abs().max()  # type: ignore[union-attr]
            largest = max(float(exact.grad.abs().max()), float(seeds[0].abs().max()))
            assert worst <= 64 * 2.0**-23 * largest


@every
def test_opcheck(attached: str) -> None:
    torch.library.opcheck(op(attached), tuple(inputs(attached, 4, 10, grad=True)))


@every
def test_opcheck_of_kernels(attached: str) -> None:
    operator = operator_of(attached)
    arguments = inputs(attached, 4, 10)
    torch.library.opcheck(overload(kernel(operator)), tuple(arguments))
    names = ("x", *forward(operator).program.operands)
    known = dict(zip(names, arguments, strict=False))
    other = backward(operator)
    given = [known.get(name, torch.randn(4, 10)) for name in ("x", *other.program.operands)]
    torch.library.opcheck(overload(other), (*given, *arguments[len(names) :]))


@few
def test_absent_rows(attached: str) -> None:
    arguments = inputs(attached, 4, 10)
    names = ("x", *forward(operator_of(attached)).program.operands)
    rows = [i for i, name in enumerate(names) if name in ROW_OPERANDS]
    if not rows:
        pytest.skip("it has none")
    absent, neutral = list(arguments), list(arguments)
    for i in rows:
        absent[i] = None
        neutral[i] = torch.full((10,), 1.0 if names[i] == "scale" else 0.0)
    leaf = absent[0].clone().requires_grad_()
    found = outputs_of(op(attached)(leaf, *absent[1:]))
    for got, right in zip(found, outputs_of(op(attached)(*neutral)), strict=True):
        assert torch.equal(got, right)
    found[0].sum().backward()
    assert leaf.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["rms_norm", "gelu_tanh"])
def test_narrow_types(kernels: None, name: str, dtype: torch.dtype) -> None:
    assert attach(operator_of(name), str(dtype).removeprefix("torch.")) == ""
    arguments = inputs(name, 200, 33, dtype=dtype, grad=True)
    if name == "rms_norm":  # a gain in float32 is read as it is
        arguments[1] = (arguments[1].detach().float() + 1e-3).requires_grad_()
    found = op(name)(*arguments)
    wide = widened(arguments)
    right = meaning(forward(operator_of(name)))(*wide)
    close(found, right, 0.51, dtype)  # rounded once
    seed = torch.randn_like(found)
    found.backward(seed)
    right.backward(seed.double())
    for got, exact in zip(arguments, wide, strict=True):
        if isinstance(got, torch.Tensor):
            assert got.grad is not None and got.grad.dtype == got.dtype
            off = (got.grad.double() - exact.grad).abs().max() / exact.grad.abs().max()
            assert off <= 0.51 * torch.finfo(got.dtype).eps + 1e-5


@few
def test_a_gradient_can_be_differentiated_again(attached: str) -> None:
    arguments = inputs(attached, 2, 4, grad=True)
    tensors = [one for one in arguments if isinstance(one, torch.Tensor)]
    wide, numbers = widened(tensors), arguments[len(tensors) :]
    reference = meaning(forward(operator_of(attached)))

    def second(function: Any, given: list[torch.Tensor]) -> list[torch.Tensor]:
        value = outputs_of(function(*given, *numbers))[0].sin().sum()
        first = torch.autograd.grad(value, given, create_graph=True)
        total = torch.stack([one.square().sum() for one in first]).sum()
        return list(torch.autograd.grad(total, given, materialize_grads=True))

    for got, right in zip(second(op(attached), tensors), second(reference, wide), strict=True):
        torch.testing.assert_close(got.double(), right, rtol=1e-4, atol=1e-4)


@few
def test_forward_mode_and_func_are_right(attached: str) -> None:
    arguments = inputs(attached, 3, 5)
    x, rest = arguments[0], arguments[1:]
    reference = meaning(forward(operator_of(attached)))

    def ours(x: torch.Tensor) -> torch.Tensor:
        return outputs_of(op(attached)(x, *rest))[0]

    def theirs(x: torch.Tensor) -> torch.Tensor:
        return outputs_of(reference(x, *rest))[0]

    tangent = torch.randn_like(x)
    got, right = (torch.func.jvp(f, (x,), (tangent,))[1] for f in (ours, theirs))
    assert right.abs().max() > 0.01
    torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-5)
    got, right = (torch.func.grad(lambda x, f=f: f(x).sin().sum())(x) for f in (ours, theirs))
    torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-5)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        assert torch.autograd.forward_ad.unpack_dual(ours(dual)).tangent.abs().max() > 0.01


@few
def test_vmap(attached: str) -> None:
    names = ("x", *forward(operator_of(attached)).program.operands)
    arguments = inputs(attached, 3, 4, 6)
    dims: list[int | None] = [1 if name not in ROW_OPERANDS else None for name in names]
    dims += [None] * (len(arguments) - len(names))
    batched = torch.vmap(op(attached), tuple(dims), 1)(*arguments)
    for got, right in zip(outputs_of(batched), outputs_of(op(attached)(*arguments)), strict=True):
        torch.testing.assert_close(got, right)
    # each element of the batch has a gain of its own, and they share x
    shared = list(arguments)
    dims = [0 if name in ROW_OPERANDS else None for name in names] + [None] * (len(arguments) - len(names))
    if not any(dim == 0 for dim in dims):
        return
    for i, dim in enumerate(dims):
        if dim == 0:
            shared[i] = torch.randn(2, 6)
    got = outputs_of(torch.vmap(op(attached), tuple(dims))(*shared))[0]
    for k in range(2):
        one = [a[k] if dim == 0 else a for a, dim in zip(shared, dims, strict=True)]
        torch.testing.assert_close(got[k], outputs_of(op(attached)(*one))[0])


@pytest.mark.parametrize("attached", ["add_rms_norm"], indirect=True)
def test_autocast_keeps_what_the_sum_has(attached: str) -> None:
    assert attach(operator_of(attached), "bfloat16") == ""
    x, residual, scale, epsilon = inputs(attached, 4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y, total = op(attached)(x.bfloat16(), residual, scale, epsilon)
        assert y.dtype == total.dtype == torch.float32  # as x + residual
        y, total = op(attached)(x.bfloat16(), residual.bfloat16(), scale, epsilon)
        assert y.dtype == total.dtype == torch.bfloat16


@pytest.mark.parametrize("attached", ["layer_norm", "softmax", "gelu_tanh"], indirect=True)
def test_special_values(attached: str) -> None:
    arguments = inputs(attached, 3, 9)
    arguments[0][0, 4] = torch.nan
    arguments[0][1, 2] = -torch.inf
    got = op(attached)(*arguments)
    right = ops.stock(attached)(*arguments)
    if attached == "gelu_tanh":
        # torch's own is x (1 + tanh u) / 2, which is -inf * 0 there
        assert got[1, 2] == 0.0 or got[1, 2].isnan()
        right[1, 2] = got[1, 2]
    torch.testing.assert_close(got, right, equal_nan=True, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attached", ["softmax"], indirect=True)
def test_fully_masked_rows(attached: str) -> None:
    x = torch.full((2, 17), -torch.inf)
    x[1] = torch.finfo(torch.float32).min
    got = op(attached)(x)
    assert got[0].isnan().all()
    torch.testing.assert_close(got[1], torch.full((17,), 1 / 17))


@pytest.mark.parametrize("attached", ["rms_norm"], indirect=True)
def test_what_does_not_fit_is_refused(attached: str) -> None:
    x, scale = torch.randn(3, 8), torch.randn(8)
    run = op(attached)
    for wrong in (x.double(), x.long(), x.to(torch.complex64)):
        with pytest.raises(RuntimeError, match="float32, float16 and bfloat16"):
            run(wrong, scale, 1e-5)
    with pytest.raises(RuntimeError, match="the shape"):
        run(x, torch.randn(7), 1e-5)
    with pytest.raises(RuntimeError, match="the shape"):
        run(x, torch.randn(1, 8), 1e-5)
    with pytest.raises(RuntimeError, match="no rows"):
        run(torch.tensor(1.0), scale, 1e-5)
    with pytest.raises(RuntimeError):
        run(x.to_sparse(), scale, 1e-5)
    residual = inputs("add_rms_norm", 3, 8)
    assert attach(operator_of("add_rms_norm"), "float32") == ""
    with pytest.raises(RuntimeError, match="another shape"):
        op("add_rms_norm")(residual[0], residual[1][:2], *residual[2:])
    with pytest.raises(RuntimeError, match="another type"):
        op("add_rms_norm")(residual[0], residual[1].double(), *residual[2:])


@few
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled(attached: str, backend: str) -> None:
    torch._dynamo.reset()
    arguments, run = inputs(attached, 6, 20, grad=True), op(attached)

    def model(*given: Any) -> torch.Tensor:
        found = run(*given)
        return ((found[0] if isinstance(found, tuple) else found) * 2.0).sin()

    compiled = torch.compile(model, backend=backend, fullgraph=True)
    tensors = [one for one in arguments if isinstance(one, torch.Tensor)]
    got, right = compiled(*arguments), model(*arguments)
    torch.testing.assert_close(got, right)
    for a, b in zip(
        torch.autograd.grad(got.sum(), tensors), torch.autograd.grad(right.sum(), tensors), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_threads_do_not_change_totals(kernels: None) -> None:
    assert attach(operator_of("layer_norm"), "float32") == ""
    arguments = inputs("layer_norm", 1000, 64)
    gradient = torch.randn(1000, 64)
    run = overload(backward(operator_of("layer_norm")))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(run(arguments[0], gradient, arguments[1], 1e-5))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_meaning(name: str) -> None:
    arguments = inputs(name, 4, 9, dtype=torch.float64)
    found, right = meaning(forward(operator_of(name)))(*arguments), ops.stock(name)(*arguments)
    for a, b in zip(outputs_of(found), outputs_of(right), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_call(kernels: None) -> None:
    x, scale = torch.randn(3, 8), torch.randn(8)
    right = torch.nn.functional.rms_norm(x, (8,), scale, 1e-6)
    torch.testing.assert_close(ops.call("rms_norm", x, scale, epsilon=1e-6), right)
    # a type that no kernel is for
    wide = ops.call("rms_norm", x.double(), scale.double(), epsilon=1e-6)
    torch.testing.assert_close(wide, torch.nn.functional.rms_norm(x.double(), (8,), scale.double(), 1e-6))
    with pytest.raises(InputError, match="no operator"):
        ops.call("rms", x)
    with pytest.raises(InputError, match="takes x, scale, epsilon"):
        ops.call("rms_norm", x, scale, eps=1e-6)
