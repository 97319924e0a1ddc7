"""Attention in torch graphs: what becomes ours, what stays and why, and that both are the same function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import tautomer.torch
from tautomer.codegen.torch.attention import BACKWARD, KERNEL
from tautomer.patterns.attention.form import AttentionForm
from tautomer.patterns.attention.operators import form_text
from tautomer.remarks import Remark
from tautomer.runtime.torch import attention_cuda, backend, rewriting
from tautomer.runtime.torch.attention_library import attach
from tautomer.runtime.torch.attention_rules import overload
from tautomer.runtime.torch.compat import FakeTensorMode, make_fx
from tautomer.runtime.torch.rewriting import Rewritten, rewrite_graph
from tautomer.target import EAGER, HOPPER, Target

# whatever it gains: the sizes here are too small for that
ALWAYS = replace(EAGER, attention=dict.fromkeys(EAGER.attention, ((1, 2.0),)))
N, CLOSE = 9, {"rtol": 1e-4, "atol": 2e-5}  # float32 against float32, in another order
Function = Callable[..., torch.Tensor]
CAUSAL = torch.ones(N, N, dtype=torch.bool).tril()


def qkv(dtype: torch.dtype = torch.float32, rows: int = N, kv_heads: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn((2, heads, rows, 16), generator=generator).to(dtype) for heads in (4, kv_heads, kv_heads)
    )


def repeated(x: torch.Tensor) -> torch.Tensor:
    """As transformers repeats the heads of keys and values."""
    batch, heads, rows, width = x.shape
    return x[:, :, None].expand(batch, heads, 2, rows, width).reshape(batch, 2 * heads, rows, width)


def scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return q @ k.transpose(-2, -1) / 4.0


def sinks(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """A score of each head beside those of the keys, whose weight is dropped: as gpt-oss has it."""
    more = q[0, :, 0, 0].reshape(1, 4, 1, 1).expand(*q.shape[:3], 1)
    both = torch.cat([scores(q, k), more], -1)
    return torch.softmax(both - both.amax(-1, keepdim=True), -1)[..., :-1] @ v


def lssar(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Shares by softplus, then those above the average again; the first queries subtract nothing."""
    keys = torch.arange(1.0, N + 1.0)[:, None]
    q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
    a = functional.softplus(math.log(16) * keys.log() * (q @ k.mT)) * torch.ones(N, N).tril()
    b = torch.relu(keys * (a / a.sum(-1, keepdim=True)) - torch.where(keys > 3.0, 1.0, 0.0)) ** 3
    return b / b.sum(-1, keepdim=True) @ v


def in_float32(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """As transformers writes eager attention: rounded back behind the softmax."""
    weights = torch.softmax(scores(q, repeated(k)), -1, dtype=torch.float32).to(q.dtype)
    return (weights @ repeated(v)).transpose(1, 2).contiguous()


def graph_of(function: Function, given: Any) -> torch.fx.GraphModule:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fakes = [mode.from_tensor(x) if type(x) is torch.Tensor else x for x in given]
        return make_fx(function, pre_dispatch=True)(*fakes)


def rewritten(
    function: Function, *given: torch.Tensor, target: Target = ALWAYS, verify: bool = True
) -> tuple[Rewritten, list[Any]]:
    """What became of a function, and the forms and numbers of the operators of ours in it."""
    done = rewrite_graph(graph_of(function, given), given, target=target, verify=verify)
    nodes = [node for node in done.module.graph.nodes if node.target is overload()]
    return done, [node.args[7:] for node in nodes]


def reasons(done: Rewritten) -> str:
    """Why something was not done."""
    return "\n".join(remark.reason for remark in done.remarks if remark.kind == "missed")


@pytest.fixture(autouse=True)
def kernels() -> None:
    reason = attach(AttentionForm("softmax"))
    if reason:
        pytest.skip(reason)


SPELLINGS: dict[str, tuple[Function, str]] = {
    "sigmoid": (lambda q, k, v: torch.sigmoid(scores(q, k) - math.log(N)) @ v, "sigmoid"),
    "sigmoid, causal by a choice": (
        lambda q, k, v: (
            torch.sigmoid(scores(q, k).masked_fill(~torch.ones(N, N, dtype=torch.bool).tril(), -math.inf)) @ v
        ),
        "sigmoid_causal",
    ),
    "softmax": (lambda q, k, v: functional.softmax(scores(q, k), dim=-1) @ v, "softmax"),
    "softmax, causal by a sum": (
        lambda q, k, v: (scores(q, k) + torch.full((N, N), -math.inf).triu(1)).softmax(-1) @ v,
        "softmax_causal",
    ),
    "softmax, by positions": (
        lambda q, k, v: (
            torch.softmax(
                torch.where(torch.arange(N) <= torch.arange(N)[:, None], scores(q, k), -math.inf), -1
            )
            @ v
        ),
        "softmax_causal",
    ),
    "squared relu": (lambda q, k, v: torch.relu(scores(q, k)).square() / N @ v, "relu2"),
    "sinks": (sinks, "softmax1_sink"),
    "torch's own": (
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        "softmax_causalstart",
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings(name: str) -> None:
    function, form = SPELLINGS[name]
    done, found = rewritten(function, *qkv())
    assert [args[0] for args in found] == [form], done.remarks
    assert done.verification["verdict"] == "EQUAL"
    torch.testing.assert_close(done.module(*qkv()), function(*qkv()), **CLOSE)


def test_lssar() -> None:
    """Powers of differences lose digits in any order: the evidence takes that at some sizes, not here."""
    done, found = rewritten(lssar, *qkv(), verify=False)
    assert found[0][0] == "softplus_reweighted3_causal" and found[0][-1] == 3, done.remarks
    torch.testing.assert_close(done.module(*qkv()), lssar(*qkv()), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_grouped_heads_are_read_where_they_are(dtype: torch.dtype) -> None:
    """k and v before they are repeated; casts to float32 and back belong to how it is computed."""
    given = qkv(dtype, kv_heads=2)
    done, found = rewritten(in_float32, *given)
    assert [args[0] for args in found] == ["softmax"], done.remarks
    (node,) = (node for node in done.module.graph.nodes if node.target is overload())
    assert [one.meta["val"].shape[1] for one in node.args[:3]] == [4, 2, 2]
    wide = in_float32(*(x.double() for x in given))
    # a result of about 1, rounded once more than the other
    near = CLOSE if dtype == torch.float32 else {"rtol": 0.0, "atol": 2.0**-6}
    torch.testing.assert_close(done.module(*given).double(), wide, **near)


@pytest.mark.parametrize("kind", ["boolean", "added", "of torch's own"])
def test_masks_that_are_inputs(kind: str) -> None:
    mask = torch.rand((2, 1, N, N), generator=torch.Generator().manual_seed(2)) > 0.3
    mask[..., 0] = True
    if kind == "added":
        mask = torch.where(mask, 0.0, -3.0)

    def attend(q: Any, k: Any, v: Any, mask: Any) -> torch.Tensor:
        s = scores(q, k)
        return torch.softmax(s + mask if kind == "added" else s.masked_fill(~mask, -math.inf), -1) @ v

    own = kind == "of torch's own"
    done, found = rewritten(functional.scaled_dot_product_attention if own else attend, *qkv(), mask)
    if own:  # a query without keys gives 0, and one of NaN does not
        assert not found and "no form does both" in reasons(done)
        return
    assert [args[0] for args in found] == [f"softmax_{'additive' if kind == 'added' else 'boolean'}"]
    torch.testing.assert_close(done.module(*qkv(), mask), attend(*qkv(), mask), **CLOSE)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_the_kernel_itself_meets_the_criterion(name: str) -> None:
    """The whole graph is run with it. Of sums over all keys in one chain, the score was 9; 4 is allowed."""
    q, k, v = (torch.randn((1, 1, 1024, 64), generator=torch.Generator().manual_seed(i)) for i in range(3))

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        s = q @ k.mT * 0.125
        return (torch.sigmoid(s - math.log(1024)) if name == "sigmoid" else s.softmax(-1)) @ v

    done, found = rewritten(attend, q, k, v)
    assert [args[0] for args in found] == [name], done.remarks
    assert done.verification["verdict"] == "EQUAL" and "the whole by" in done.verification["reason"]


MISSES: dict[str, tuple[Function, str]] = {
    "a square": (lambda q, k, v: torch.sigmoid(scores(q, k) ** 2) @ v, "no score function"),
    "another axis": (lambda q, k, v: torch.softmax(scores(q, k), -2) @ v, "no score function"),
    "weights that are read": (
        lambda q, k, v: (w := torch.sigmoid(scores(q, k))) @ v + w.sum(),
        "reads what node",
    ),
    "dropout": (
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, dropout_p=0.1),
        "drops weights",
    ),
    "masked keys that count": (
        lambda q, k, v: torch.softmax(scores(q, k).masked_fill(~CAUSAL, -10.0), -1) @ v,
        "no score function",
    ),
}


@pytest.mark.parametrize("name", MISSES)
def test_near_misses_stay_and_say_why(name: str) -> None:
    function, reason = MISSES[name]
    done, found = rewritten(function, *qkv())
    assert not found and not done.changed
    assert reason in reasons(done)


def test_float64_stays() -> None:
    done, found = rewritten(SPELLINGS["sigmoid"][0], *qkv(torch.float64))
    assert not found and "element type is DOUBLE" in reasons(done)


def test_short_sequences_stay() -> None:
    done, found = rewritten(SPELLINGS["sigmoid"][0], *qkv(), target=EAGER)
    assert not found and "of the time of a kernel" in reasons(done)


class Attention(nn.Module):
    """Sigmoid or softmax attention of two heads, causal by a mask of all positions."""

    def __init__(self, score: str) -> None:
        super().__init__()
        self.score = score
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, n, _ = x.shape
        q, k, v = self.qkv(x).view(batch, n, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        s = q @ k.transpose(-1, -2) * 8**-0.5
        if self.score == "softmax":
            s = s.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -math.inf)
        weights = torch.sigmoid(s - 2.0) if self.score == "sigmoid" else getattr(torch, self.score)(s, -1)
        return self.out((weights @ v).transpose(1, 2).reshape(x.shape))


def test_an_optimized_module_and_its_onnx(tmp_path: Path) -> None:
    """At a size from which the kernel gains."""
    model, x = Attention("softmax").eval(), torch.randn(1, 140, 16)
    done = tautomer.optimize(model, example_inputs=(x,))
    assert done.after["tautomer.score_attention_v1.default"] == 1 and done.verification["verdict"] == "EQUAL"
    with torch.no_grad():
        torch.testing.assert_close(done.model(x), model(x), **CLOSE)
        ort = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        tautomer.torch.export_onnx(done.model, (x,), tmp_path / "model.onnx")
        session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})  # by the operator's function
        torch.testing.assert_close(torch.from_numpy(found), model(x), **CLOSE)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, fresh_dynamo: None) -> list[str]:
    """The forms of operators of ours in what the backend compiled; it takes them at every size."""
    found: list[str] = []

    def kept(*args: Any, **kwargs: Any) -> Rewritten:
        done = rewriting.rewrite_graph(*args, **kwargs)
        found.extend(node.args[7] for node in done.module.graph.nodes if node.target is overload())
        found.extend(
            one.reason for one in done.remarks if one.rule == "fuse attention" and one.kind == "missed"
        )
        return done

    monkeypatch.setattr(backend, "EAGER", ALWAYS)
    monkeypatch.setattr(backend, "rewrite_graph", kept)
    return found


def compiled(module: nn.Module, **options: Any) -> Any:
    return torch.compile(
        module, backend=backend.tautomer, options={"then": "aot_eager", "strict": True}, **options
    )


@pytest.mark.parametrize("dynamic", [None, True])
def test_the_backend_at_two_lengths(seen: list[str], dynamic: bool | None) -> None:
    model = Attention("softmax").eval()
    program = compiled(model, dynamic=dynamic)
    with torch.no_grad():
        for n in (7, 13):
            x = torch.randn(2, n, 16)
            torch.testing.assert_close(program(x), model(x), **CLOSE)
    assert seen == ["softmax_causal"] * (1 if dynamic else 2)


@pytest.mark.parametrize("score", ["sigmoid", "softmax"])
def test_training(seen: list[str], score: str) -> None:
    model, x = Attention(score), torch.randn(2, N, 16, requires_grad=True)
    program = compiled(model)

    def gradients(run: Any) -> Any:
        return torch.autograd.grad(run(x).square().sum(), [x, *model.parameters()])

    for one, other in zip(gradients(program), gradients(model), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    assert seen == ["sigmoid" if score == "sigmoid" else "softmax_causal"]


def test_what_has_no_gradient_by_a_kernel_stays(seen: list[str]) -> None:
    bias = nn.Parameter(torch.randn(4, N, N))
    for function in (
        SPELLINGS["squared relu"][0],
        lambda q, k, v: torch.softmax(scores(q, k) + bias, -1) @ v,
    ):
        given = [x.requires_grad_() for x in qkv()]
        program = torch.compile(function, backend=backend.tautomer, options={"then": "aot_eager"})
        torch.testing.assert_close(program(*given), function(*given), **CLOSE)
    assert ["gradients flow through it" in seen[0], "to what is added" in seen[1]] == [True, True]


def test_autocast(seen: list[str]) -> None:
    model = Attention("sigmoid").eval()
    program, x = compiled(model), torch.randn(2, N, 16)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        y = program(x)
        assert y.dtype == model(x).dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), model(x), rtol=0.0, atol=2.0**-6)  # a few roundings of about 1
    assert seen == ["sigmoid"]


# On a GPU; none is needed, since nothing runs.

SIZES = (2, 4, 1024, 64)


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Hopper."""
    if torch.version.cuda is not None and not torch.cuda.is_available():
        pytest.skip("this build of torch asks the driver even for fake tensors of a GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(attention_cuda, "attach", lambda *_: "")


def used(function: Function, *sizes: tuple[int, ...]) -> tuple[list[Remark], list[Any]]:
    """The remarks on attention, and the numbers and forms of the operators of ours that were put in."""
    with FakeTensorMode() as mode:
        given = [torch.empty(size, dtype=torch.bfloat16, device="cuda:0") for size in sizes or (SIZES,) * 3]
        with mode:
            graph = make_fx(function, pre_dispatch=True)(*given)
    with torch.no_grad():
        done = rewrite_graph(graph, given, target=HOPPER, whole=False)
    nodes = [node for node in done.module.graph.nodes if node.target is overload()]
    return [one for one in done.remarks if one.rule == "fuse attention"], [node.args[7:] for node in nodes]


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(
    ("function", "form", "numbers"),
    [
        (
            lambda q, k, v: torch.sigmoid(q @ k.mT * (1.0 / math.sqrt(64)) - math.log(1024)) @ v,
            "sigmoid",
            (0.125, -math.log(1024)),
        ),
        (lambda q, k, v: (-(2 - (q @ k.transpose(2, 3)))).sigmoid() @ v, "sigmoid", (1.0, -2.0)),
    ],
)
def test_on_a_gpu(function: Function, form: str, numbers: tuple[float, float]) -> None:
    _, ((found, *others),) = used(function)
    assert found == form
    assert others == pytest.approx([*numbers, 1.0, 0, 0], rel=1e-7)  # constants are float32


@pytest.mark.usefixtures("hopper")
def test_torchs_own_attention_on_a_gpu() -> None:
    function = SPELLINGS["torch's own"][0]
    remarks, found = used(function, *((1, 2, 4096, 64),) * 3)
    assert [one.kind for one in remarks] == ["passed"]
    assert found[0][:2] == ("softmax_causalstart", 0.125)


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(
    ("function", "sizes", "reason"),
    [
        (functional.scaled_dot_product_attention, SIZES, "from 4096"),
        (functional.scaled_dot_product_attention, (1, 2, 4096, 96), "no gain"),
        (lambda q, k, v: torch.sigmoid(scores(q, k)) @ v, (2, 4, 1023, 64), "from 1024"),
        (lambda q, k, v: torch.sigmoid(scores(q, k)) @ v, (2, 4, 1024, 80), "heads of 80"),
        (lambda q, k, v: torch.softmax(scores(q, k), -1) @ v, SIZES, "softmax is known to gain"),
        (lambda q, k, v: torch.relu(scores(q, k)) @ v, SIZES, "relu is known to gain"),
    ],
)
def test_what_stays_on_a_gpu_says_why(function: Function, sizes: tuple[int, ...], reason: str) -> None:
    remarks, found = used(function, *(sizes,) * 3)
    assert not found
    assert len(remarks) == 1 and reason in remarks[0].reason


@pytest.mark.usefixtures("hopper")
def test_results_and_gradients_lie_as_their_tensors_do() -> None:
    with FakeTensorMode():
        given = [
            torch.empty((2, n, h, 64), dtype=torch.bfloat16, device="cuda:0").transpose(1, 2)
            for h, n in ((4, 9), (2, 13), (2, 13))
        ]
        for score in ("sigmoid", "softmax", "relu"):
            form = form_text(AttentionForm(score, causal="end"))
            rest = (*given, None, None, None, None, form, 0.125, 0.0, 1.0, 0, 0)
            y, statistics = overload(KERNEL)(*rest)
            assert y.stride() == given[0].stride()  # so that transposes around it need no copy
            found = overload(BACKWARD)(y, y, statistics, *rest)
            assert [one.shape for one in found] == [one.shape for one in given]
            assert [one.stride() for one in found] == [one.stride() for one in given]
