"""convert: which norms become RMSNorm, that the function stays, and that everything else does, too."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from convert_cases import Stream, distance, evaluated, family, perturb, result, tokens
from torch import nn

import tautomer.torch
from benchmarks.conversions import CONVERSIONS
from tautomer.errors import CheckFailedError, InputError
from tautomer.runtime.torch import convert as convert_module
from tautomer.runtime.torch.centring import Centring
from tautomer.torch import CRMSNorm, RMSNorm, convert

NAMES = ("gpt2", "opt", "pythia", "vit", "bert", "llama", "whisper_encoder", "swin")
# tied tables are centred as they are read, which is one centring more than in an export
TIED = ("gpt2", "opt")
# Two models in float32 that differ in the last bit of some weights, through two layers and a head.
ROUNDING = 5e-6


@pytest.mark.parametrize("name", NAMES)
def test_families(name: str) -> None:
    model, inputs = family(name)
    original, before = copy.deepcopy(model), model.state_dict()
    identities = {key: id(parameter) for key, parameter in model.named_parameters()}
    report = convert(model, example_inputs=inputs)

    converted, norms, at_run_time = CONVERSIONS[name]
    missed = [remark for remark in report.remarks if remark.kind == "missed" and remark.node]
    assert (len(report.converted), len(report.converted) + len(missed)) == (converted, norms)
    assert len(report.at_run_time) == at_run_time + (name in TIED)
    assert all(isinstance(model.get_submodule(path), RMSNorm) for path in report.converted)
    left = sum(isinstance(module, nn.LayerNorm) for module in model.modules())
    assert left == norms - converted
    # names, shapes and objects of parameters stay
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in before.items()
    }
    assert identities == {key: id(parameter) for key, parameter in model.named_parameters()}
    if name == "swin":  # what stays has a reason that names the module in the way
        reason = next(r.reason for r in missed if r.node == "swin.encoder.layers.0.blocks.1.layernorm_before")
        assert "joins channels, in module 'swin.encoder.layers.0.downsample'" in reason
    # other inputs than those that convert looked at
    other = {key: value.roll(1, -1) if key != "attention_mask" else value for key, value in inputs.items()}
    with torch.no_grad():
        expected, got = result(name, original(**other)), result(name, model(**other))
    assert distance(expected, got) < ROUNDING
    if converted:
        assert report.evidence is not None
        assert report.evidence.difference is not None
        assert report.evidence.difference < 1e-10
        assert report.evidence.largest_mean < 1e-5


def test_inputs_are_made_for_transformers_models() -> None:
    model, inputs = family("vit")
    assert convert(copy.deepcopy(model)).converted == convert(model, example_inputs=inputs).converted


def test_generation_with_a_cache_gives_the_same_tokens() -> None:
    model, inputs = family("gpt2")
    model.config.use_cache = True
    converted = copy.deepcopy(model)
    assert len(convert(converted).converted) == 5  # a cache in the output is no obstacle
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(inputs["input_ids"], **settings)
    assert torch.equal(converted.generate(inputs["input_ids"], **settings), expected)


@pytest.mark.parametrize("norm", ["rms", "crms"])
def test_a_plain_module_of_torch(norm: Any) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True, dropout=0.0)
    encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16), enable_nested_tensor=False)
    model = nn.Sequential(nn.Embedding(32, 16), encoder, nn.Linear(16, 4))
    perturb(model)
    original, x = copy.deepcopy(model), tokens()
    report = convert(model, norm, (x,))
    assert len(report.converted) == 5
    assert isinstance(model[1].norm, CRMSNorm if norm == "crms" else RMSNorm)
    # under no_grad this is torch's fused fast path, which reads the parameters of the norms itself
    assert distance(evaluated(original, x), evaluated(model, x)) < ROUNDING


def test_a_layer_alone_shows_its_stream_and_is_left_as_it_is() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
    before = copy.deepcopy(layer.state_dict())
    report = convert(layer, example_inputs=torch.randn(2, 5, 16))
    assert report.converted == ()
    assert all(
        "output of the model" in remark.reason or "input of the model" in remark.reason
        for remark in report.remarks
    )
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    assert layer.training


def test_tied_weights_stay_tied_and_the_head_reads_them_as_they_are() -> None:
    model = Stream(tied=True)
    original, table = copy.deepcopy(model), model.embed.weight.detach().clone()
    report = convert(model, example_inputs=tokens())
    assert report.at_run_time == ("embed",)
    assert model.head.weight is model.embed.weight
    assert torch.equal(model.embed.weight, table)
    assert distance(evaluated(original, tokens(1)), evaluated(model, tokens(1))) < ROUNDING


def test_a_weight_that_another_module_reads_is_not_centred() -> None:
    class Peeking(Stream):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + self.blocks[0].down.weight.sum()

    model = Peeking()
    original = copy.deepcopy(model)
    report = convert(model, example_inputs=tokens())
    assert "blocks.0.down.weight" not in [centring.name for centring in report.centrings]
    assert distance(evaluated(original, tokens(1)), evaluated(model, tokens(1))) < ROUNDING


class OwnNorm(nn.Module):
    """A layer normalisation of somebody's own, in plain arithmetic."""

    def __init__(self, width: int, ddof: int = 0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.divisor = width - ddof

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().sum(-1, keepdim=True) / self.divisor
        return self.weight * centred / torch.sqrt(variance + 1e-5) + self.bias


@pytest.mark.parametrize(("ddof", "converted"), [(0, 3), (1, 0)])
def test_norms_are_known_by_what_they_compute(ddof: int, converted: int) -> None:
    model = Stream()
    model.norm = OwnNorm(24, ddof)
    perturb(model)
    original = copy.deepcopy(model)
    report = convert(model, example_inputs=tokens())
    # with another divisor it is another function, of which nobody has shown that it does not see the mean
    assert len(report.converted) == converted
    assert distance(evaluated(original, tokens(1)), evaluated(model, tokens(1))) < ROUNDING


def test_a_norm_with_hooks_is_left_alone() -> None:
    model = Stream()
    model.norm.register_forward_hook(lambda module, args, result: None)
    report = convert(model, example_inputs=tokens())
    assert report.converted == ("blocks.0.norm", "blocks.1.norm")
    assert [r.node for r in report.remarks if "hooks" in r.reason] == ["norm"]


def test_buffers_write_to_the_stream_too() -> None:
    class Sinusoids(Stream):
        def __init__(self) -> None:
            super().__init__()
            del self.positions
            self.register_buffer("positions", torch.arange(8.0 * 24).sin().reshape(1, 8, 24) + 1.0)

    model = Sinusoids()
    original = copy.deepcopy(model)
    report = convert(model, example_inputs=tokens())
    assert "positions" in [centring.name for centring in report.centrings]
    assert distance(evaluated(original, tokens(1)), evaluated(model, tokens(1))) < ROUNDING


def test_parameters_that_share_memory_are_not_centred() -> None:
    model = Stream()
    whole = torch.randn(2, 24)
    model.blocks[0].down.bias = nn.Parameter(whole[0])
    model.blocks[1].down.bias = nn.Parameter(whole[1])
    model.blocks[0].up.extra = nn.Parameter(whole)
    original = copy.deepcopy(model)
    report = convert(model, example_inputs=tokens())
    assert "blocks.0.down.bias" not in [centring.name for centring in report.centrings]
    assert distance(evaluated(original, tokens(1)), evaluated(model, tokens(1))) < ROUNDING


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_element_types(dtype: torch.dtype) -> None:
    model = Stream().to(dtype)
    original = copy.deepcopy(model)
    report = convert(model, example_inputs=tokens())
    assert len(report.converted) == 3
    y = evaluated(model, tokens(1))
    assert y.dtype == dtype
    exact = evaluated(original.double(), tokens(1))
    assert distance(exact, y) < 40 * torch.finfo(dtype).eps  # five layers deep; one rounding is 0.5


def test_a_model_in_training_mode_stays_in_it() -> None:
    model = Stream(dropout=0.5).train()
    model.blocks[0].eval()
    convert(model, example_inputs=tokens())
    assert model.training
    assert model.norm.training
    assert not model.blocks[0].training
    assert not model.blocks[0].norm.training


def test_names_that_a_module_has_twice_are_replaced_twice() -> None:
    model = Stream()
    model.alias = model.norm
    convert(model, example_inputs=tokens())
    assert isinstance(model.norm, RMSNorm)
    assert model.alias is model.norm


def test_a_norm_that_is_called_twice_is_converted_for_both_or_neither() -> None:
    class Twice(Stream):
        def __init__(self, shown: bool) -> None:
            super().__init__()
            self.blocks[1].norm = self.blocks[0].norm
            self.shown = shown

        def forward(self, x: torch.Tensor) -> Any:
            first = self.blocks[0](self.embed(x))
            y = self.head(self.norm(self.blocks[1](first)))
            return (y, first) if self.shown else y

    assert len(convert(Twice(False), example_inputs=tokens()).converted) == 2
    report = convert(Twice(True), example_inputs=tokens())
    assert "blocks.0.norm" not in report.converted


# saving and loading


def _through_a_file(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("tied", [False, True])
def test_checkpoints_are_interchangeable(tied: bool) -> None:
    original = Stream(tied=tied)
    x, expected = tokens(1), evaluated(original, tokens(1))
    converted = copy.deepcopy(original)
    convert(converted, example_inputs=x)
    saved = _through_a_file(converted.state_dict())
    assert list(saved) == list(original.state_dict())

    plain = Stream(tied=tied)
    perturb(plain)
    plain.load_state_dict(saved)  # in a model that was never converted
    assert distance(expected, evaluated(plain, x)) < ROUNDING

    fresh = Stream(tied=tied)
    perturb(fresh)
    convert(fresh, example_inputs=x, verify=False)
    fresh.load_state_dict(saved)  # in a fresh model that was converted in the same way
    assert torch.equal(evaluated(fresh, x), evaluated(converted, x))
    assert all(torch.equal(saved[key], value) for key, value in fresh.state_dict().items())

    fresh.load_state_dict(_through_a_file(original.state_dict()))  # one from before the conversion
    assert distance(expected, evaluated(fresh, x)) < ROUNDING


def test_copies_and_pickles_of_a_converted_model_work() -> None:
    model = Stream(tied=True)
    convert(model, example_inputs=tokens())
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert torch.equal(evaluated(other, tokens(1)), evaluated(model, tokens(1)))
        with torch.no_grad():
            other.blocks[0].down.weight.add_(1.0)
        other.load_state_dict(Stream(tied=True).state_dict())
        assert float(other.blocks[0].down.weight.detach().mean(0).abs().max()) < 1e-6


def test_a_converted_model_exports_and_compiles() -> None:
    model = Stream(tied=True)
    convert(model, example_inputs=tokens())
    expected = evaluated(model, tokens(1))
    exported = torch.export.export(model, (tokens(),))
    assert distance(expected, exported.module()(tokens(1))) < ROUNDING
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert distance(expected, evaluated(compiled, tokens(1))) < ROUNDING
    torch._dynamo.reset()


# refusals


def test_a_second_conversion_does_nothing() -> None:
    model = Stream()
    convert(model, example_inputs=tokens())
    before = copy.deepcopy(model.state_dict())
    report = convert(model, example_inputs=tokens())
    assert report.converted == ()
    assert "converted before" in report.remarks[0].reason
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_model_without_norms_says_so() -> None:
    report = convert(nn.Linear(4, 4), example_inputs=torch.randn(2, 4))
    assert report.converted == ()
    assert "no layer normalisation" in str(report)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x) if x.sum() > 0 else x


def _quantized() -> nn.Module:
    model = Stream()
    model.blocks[0].down.weight = nn.Parameter(torch.ones(24, 48, dtype=torch.int8), requires_grad=False)
    return model


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (Stream().to("meta"), tokens(), "meta device"),
        (_quantized(), tokens(), "before it is quantized"),
        (nn.Sequential(torch.ao.nn.quantized.dynamic.Linear(4, 4)), tokens(), "before it is quantized"),
        (Branching(), torch.randn(2, 4), "cannot be exported"),
        (Stream(), torch.randn(2, 4), "does not run on the example inputs"),
        (Stream(), None, "example_inputs"),
        (lambda x: x, tokens(), "no torch.nn.Module"),
    ],
)
def test_models_that_cannot_be_converted(model: Any, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert(model, example_inputs=given)
    if isinstance(model, nn.Module):
        assert not any(isinstance(module, RMSNorm) for module in model.modules())


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(InputError, match="choose one of rms, crms"):
        convert(Stream(), "ln", tokens())  # type: ignore[arg-type]


def test_a_failed_check_restores_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Stream(tied=True)
    before, hooks = copy.deepcopy(model.state_dict()), len(model.embed._forward_hooks)

    def fails(*_: Any) -> float:
        raise CheckFailedError("it moved")

    monkeypatch.setattr(convert_module.Examiner, "outputs", fails)
    with pytest.raises(CheckFailedError, match="it moved"):
        convert(model, example_inputs=tokens())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert type(model.norm) is nn.LayerNorm
    assert len(model.embed._forward_hooks) == hooks
    assert not model._load_state_dict_post_hooks


def test_a_conversion_that_breaks_off_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Stream()
    before, apply, calls = copy.deepcopy(model.state_dict()), Centring.apply, []

    def breaks(centring: Centring, tensor: torch.Tensor) -> None:
        calls.append(centring.name)
        if tensor.dtype == torch.float32 and len(calls) > 8:  # the float64 copy comes first
            raise RuntimeError("a tensor that refuses")
        apply(centring, tensor)

    monkeypatch.setattr(Centring, "apply", breaks)
    with pytest.raises(RuntimeError, match="refuses"):
        convert(model, example_inputs=tokens())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert type(model.norm) is nn.LayerNorm


def test_a_plan_that_forgets_a_writer_or_sees_a_mean_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    def forgetful(model: nn.Module, traced: Any) -> Any:
        plan = plan_module(model, traced)
        return replace(plan, centrings=plan.centrings[1:])

    plan_module = convert_module.plan_module
    monkeypatch.setattr(convert_module, "plan_module", forgetful)
    model = Stream()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckFailedError, match="the model is as it was"):
        convert(model, example_inputs=tokens())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_public_names_exist() -> None:
    assert {"CRMSNorm", "Conversion", "RMSNorm", "convert"} <= set(tautomer.torch.__all__)
    for name in tautomer.torch.__all__:
        assert getattr(tautomer.torch, name) is not None
