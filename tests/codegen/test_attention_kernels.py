"""Attention kernels against their formula in float64: every score function, mask, size and instruction set.

The tolerance is relative to the largest result: a rounding of a score moves its weight relatively by as much
as the score is moved absolutely, which is some units of the score's last place, and scores are up to 10 here.
The worst of these results is off by 7.3 units; 12 leave room for other orders of summation, and one missing
key is far above.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_calls import TYPES, build, exact, run
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tautomer.codegen.attention.kernel import AttentionKernel, attention_kernel
from tautomer.codegen.attention.tile import KEYS, ROWS
from tautomer.codegen.isa import AVX2, AVX512, AVX512_BF16, PORTABLE, Isa
from tautomer.patterns.attention.form import LOWEST, AttentionForm

ULP = 2.0**-23
# of a result that is rounded to a narrow type: half a unit of its last place, and the roundings before it
ROUNDED = {"float32": 12 * ULP, "float16": 2.0**-10, "bfloat16": 2.0**-7}
BLOCK = 12  # two tiles, so that blocks end within a tensor

FORMS = {
    "softmax": AttentionForm(),
    "softmax1": AttentionForm("softmax1"),
    "sigmoid": AttentionForm("sigmoid"),
    "relu": AttentionForm("relu"),
    "relu2": AttentionForm("relu2"),
    "softplus": AttentionForm("softplus", causal="end", empty="zero"),
    "reweighted": AttentionForm("softplus_reweighted", causal="end", power=15, empty="zero"),
    "additive": AttentionForm(mask="additive"),
    "boolean": AttentionForm("sigmoid", mask="boolean"),
    "mean": AttentionForm(mask="boolean", empty="mean"),
    "zero": AttentionForm(mask="boolean", empty="zero"),
    "window": AttentionForm(causal="start", window=True),
    "all": AttentionForm(
        "softmax1",
        mask="additive",
        causal="end",
        window=True,
        lengths=True,
        alibi=True,
        softcap=True,
        sink=True,
    ),
    "bfloat16": AttentionForm(dtype="bfloat16", mask="additive"),
    "float16": AttentionForm("sigmoid", dtype="float16", causal="end"),
}
OF_PAIRS = {
    "additive": AttentionForm(dtype="bfloat16", mask="additive"),
    "capped": AttentionForm("sigmoid", dtype="bfloat16", causal="end", softcap=True),
    "swept twice": AttentionForm("softplus_reweighted", dtype="bfloat16", power=3),
}
ON_OTHERS = ("softmax", "sigmoid", "all", "bfloat16")


def _isas() -> list[Isa]:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return [PORTABLE]
    known = {AVX512: "avx512f avx512bw avx512dq avx512vl fma", AVX2: "avx2 fma f16c"}
    return [*(isa for isa, needed in known.items() if set(needed.split()) <= flags), PORTABLE]


class Kernels:
    """Kernels of forms, built when the first of an instruction set is wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._built: dict[str, tuple[ctypes.CDLL, dict[str, AttentionKernel]]] = {}

    def __call__(self, name: str, isa: Isa, arrays: dict[str, Any], **options: Any) -> NDArray[Any]:
        if isa.name not in self._built:
            wanted = FORMS if isa == _isas()[0] else {key: FORMS[key] for key in ON_OTHERS}
            made = {key: attention_kernel(form, isa) for key, form in wanted.items()}
            self._built[isa.name] = build(list(made.values()), self._folder, isa.name), made
        library, made = self._built[isa.name]
        return run(library, made[name], arrays, **options)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    yield Kernels(tmp_path_factory.mktemp("attention"))


def tensors(
    form: AttentionForm,
    *,
    batch: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    rows: int = 7,
    columns: int = KEYS + 5,
    depth: int = 20,
    width: int = 12,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, float]]:
    """What a form is called with, and its numbers."""
    random, dtype = np.random.default_rng(seed), TYPES[form.dtype]

    def normal(*shape: int) -> NDArray[Any]:
        return random.standard_normal(shape).astype(dtype)

    arrays: dict[str, Any] = {
        "q": normal(batch, heads, rows, depth),
        "k": normal(batch, kv_heads, columns, depth),
        "v": normal(batch, kv_heads, columns, width),
    }
    if form.mask:
        mask = normal(batch, 1, rows, columns)
        arrays["mask"] = mask if form.mask == "additive" else mask > -0.7
    if form.lengths:
        arrays["lengths"] = random.integers(0, columns + 1, batch)
    if form.alibi:
        arrays["slopes"] = random.random(heads).astype(np.float32) / 8
    if form.sink:
        arrays["sink"] = random.standard_normal(heads).astype(np.float32)
    numbers = {"scale": 0.3, "bias": -0.75}
    numbers |= {"softcap": 2.0} if form.softcap else {}
    numbers |= {"window": 5.0} if form.window else {}
    numbers |= {"free": 3.0} if form.power else {}
    return arrays, numbers


def assert_right(form: AttentionForm, found: NDArray[Any], arrays: dict[str, Any], **numbers: float) -> None:
    expected = exact(form, {name: array for name, array in arrays.items() if name != "y"}, **numbers)
    found = found.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    size = np.nanmax(np.abs(expected), initial=1e-3)
    # the power of a weight multiplies its relative error
    allowed = ROUNDED[form.dtype] * size * max(1, form.power)
    assert np.nanmax(np.abs(found - expected), initial=0.0) <= allowed


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("rows", [0, 1, 3, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 1])
def test_every_form_and_tile(kernels: Kernels, name: str, rows: int) -> None:
    form = FORMS[name]
    arrays, numbers = tensors(form, rows=rows)
    assert_right(form, kernels(name, _isas()[0], arrays, block=BLOCK, **numbers), arrays, **numbers)


@pytest.mark.parametrize("name", ["softmax", "reweighted", "all", "bfloat16"])
@pytest.mark.parametrize("columns", [0, 1, 15, 16, 17, KEYS - 1, KEYS, KEYS + 1, 3 * KEYS + 2])
def test_every_number_of_keys(kernels: Kernels, name: str, columns: int) -> None:
    form = FORMS[name]
    arrays, numbers = tensors(form, columns=columns)
    assert_right(form, kernels(name, _isas()[0], arrays, block=BLOCK, **numbers), arrays, **numbers)


@pytest.mark.parametrize(
    ("depth", "width"), [(1, 1), (7, 8), (8, 9), (16, 17), (33, 40), (64, 64), (80, 128)]
)
def test_every_head_dimension(kernels: Kernels, depth: int, width: int) -> None:
    for name in ("softmax", "float16"):
        arrays, numbers = tensors(FORMS[name], depth=depth, width=width)
        for block in (1, BLOCK):
            found = kernels(name, _isas()[0], arrays, block=block, **numbers)
            assert_right(FORMS[name], found, arrays, **numbers)


@pytest.mark.parametrize("isa", _isas()[1:], ids=lambda isa: isa.name)
@pytest.mark.parametrize("name", ON_OTHERS)
def test_on_other_instruction_sets(kernels: Kernels, isa: Isa, name: str) -> None:
    form = FORMS[name]
    arrays, numbers = tensors(form, rows=2 * ROWS + 1)
    assert_right(form, kernels(name, isa, arrays, block=BLOCK, **numbers), arrays, **numbers)


@pytest.mark.parametrize("heads", [(1, 1), (6, 1), (6, 2), (3, 3)], ids=str)
@pytest.mark.parametrize("block", [1, 2, 3, 5, 100])
def test_heads_that_share_keys(kernels: Kernels, heads: tuple[int, int], block: int) -> None:
    for name in ("softmax", "all"):
        arrays, numbers = tensors(FORMS[name], heads=heads[0], kv_heads=heads[1])
        assert_right(
            FORMS[name], kernels(name, _isas()[0], arrays, block=block, **numbers), arrays, **numbers
        )


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "softplus", "all", "bfloat16"])
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("splits", [2, 3, 7])
def test_keys_in_parts(kernels: Kernels, name: str, rows: int, splits: int) -> None:
    form = FORMS[name]
    arrays, numbers = tensors(form, rows=rows, columns=4 * KEYS + 3)
    found = kernels(name, _isas()[0], arrays, block=rows * 2, splits=splits, **numbers)
    assert_right(form, found, arrays, **numbers)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "relu"])
@pytest.mark.parametrize("block, splits", [(BLOCK, 1), (1, 1), (1, 3)])
def test_rounding_does_not_grow_with_the_keys(kernels: Kernels, name: str, block: int, splits: int) -> None:
    """The root mean square, in roundings of the results'.

    A sum of n random terms in a row is off by 0.4 sqrt(n / 2) roundings: 3 of a block of keys, 19 of all of
    them here. Scores of 64 products, each rounded in units of the sum so far, are the rest; with every step
    in units of the bias, too, they alone were 26.
    """
    columns = 32 * KEYS
    arrays, numbers = tensors(
        FORMS[name], batch=1, heads=2, rows=BLOCK, columns=columns, depth=64, width=64, kv_heads=2
    )
    numbers |= {"scale": 0.125, "bias": -8.3125 if name == "sigmoid" else 0.0}  # about -log of the keys
    found = kernels(name, _isas()[0], arrays, block=block, splits=splits, **numbers)
    expected = exact(FORMS[name], arrays, **numbers)
    off = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert off <= 9 * ULP / 2


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, 1, 3, 2), (3, 1, 0, 2)], ids=str)
@pytest.mark.parametrize("name", ["softmax", "bfloat16"])
def test_axes_in_any_order(kernels: Kernels, name: str, order: tuple[int, ...]) -> None:
    arrays, numbers = tensors(FORMS[name], depth=32, width=32)
    for key in ("q", "k", "v"):
        arrays[key] = np.ascontiguousarray(arrays[key].transpose(order)).transpose(np.argsort(order))
    shape = (*arrays["q"].shape[:3], 32)
    held = np.full([shape[axis] for axis in order], np.nan, TYPES[FORMS[name].dtype])
    arrays["y"] = held.transpose(np.argsort(order))
    for block in (1, BLOCK):
        found = kernels(name, _isas()[0], arrays, block=block, **numbers)
        assert_right(FORMS[name], found, arrays, **numbers)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 1, 1), (1, 4, 7, 1), (2, 1, 1, KEYS + 5)], ids=str)
@pytest.mark.parametrize("name", ["additive", "boolean"])
def test_masks_that_broadcast(kernels: Kernels, name: str, shape: tuple[int, ...]) -> None:
    arrays, numbers = tensors(FORMS[name])
    mask = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    arrays["mask"] = mask if name == "additive" else mask > -0.5
    found = kernels(name, _isas()[0], arrays, block=BLOCK, **numbers)
    assert_right(FORMS[name], found, arrays, **numbers)
    turned = np.ascontiguousarray(arrays["mask"].swapaxes(-1, -2)).swapaxes(-1, -2)
    found = kernels(name, _isas()[0], {**arrays, "mask": turned}, block=BLOCK, **numbers)
    assert_right(FORMS[name], found, arrays, **numbers)


@pytest.mark.parametrize("removed", [-np.inf, LOWEST, -1e9])
@pytest.mark.parametrize("name", ["additive", "bfloat16"])
def test_rows_that_are_masked(kernels: Kernels, name: str, removed: float) -> None:
    """All keys of a row, all but one, and the whole first block, which leaves a stale maximum behind."""
    arrays, numbers = tensors(FORMS[name], columns=2 * KEYS)
    dtype = TYPES[FORMS[name].dtype]
    value = (
        dtype.type(removed) if np.isinf(removed) or name == "additive" else dtype.type(max(removed, -3e38))
    )
    mask = np.zeros((1, 1, 7, 2 * KEYS), dtype)
    mask[..., 1, :] = mask[..., 2, 1:] = mask[..., 3, :KEYS] = mask[..., 4, KEYS:] = value
    # exactly representable scores beside masks that swallow them: rows of one number are means
    arrays["mask"] = mask
    found = kernels(name, _isas()[0], arrays, block=BLOCK, **numbers)
    wide = {**arrays, "mask": mask.astype(np.float32)}
    if (
        -1e5 > removed > -np.inf
    ):  # float64 keeps what float32 rounds away in the row that is masked as a whole
        np.testing.assert_allclose(
            found[:, :, 1].astype(np.float64),
            np.repeat(arrays["v"].astype(np.float64).mean(2), 2, 1),
            atol=ROUNDED[FORMS[name].dtype],
        )
        wide["mask"] = wide["mask"].copy()
        wide["mask"][..., 1, :] = LOWEST
    assert_right(FORMS[name], found, wide, **numbers)


@pytest.mark.parametrize("name", ["boolean", "mean", "zero"])
def test_rows_without_keys(kernels: Kernels, name: str) -> None:
    arrays, numbers = tensors(FORMS[name])
    arrays["mask"] = np.broadcast_to(arrays["mask"], (2, 4, 7, KEYS + 5)).copy()
    arrays["mask"][0, 1, 2] = arrays["mask"][1, 3] = False
    found = kernels(name, _isas()[0], arrays, block=BLOCK, **numbers)
    assert_right(FORMS[name], found, arrays, **numbers)


@pytest.mark.parametrize("removed", [-np.inf, LOWEST])
@pytest.mark.parametrize("name", ["additive", "boolean", "mean", "zero", "bfloat16"])
def test_blocks_that_a_mask_removes(kernels: Kernels, name: str, removed: float) -> None:
    """Some for all queries, for those of a tile, for all but one, and before the first key of a query."""
    arrays, numbers = tensors(FORMS[name], rows=9, columns=4 * KEYS)
    kept = np.ones((2, 1, 9, 4 * KEYS), bool)
    kept[0, ..., :3, KEYS:] = kept[0, ..., 3:6, : 2 * KEYS] = kept[0, ..., 6:8, KEYS : 3 * KEYS] = False
    kept[1, ..., 2 * KEYS : 3 * KEYS] = kept[1, ..., 3:, :KEYS] = kept[1, ..., 8, :] = False
    arrays["mask"] = kept
    wide = dict(arrays)
    if FORMS[name].mask == "additive":
        lowest = removed if name == "additive" or np.isinf(removed) else -3e38
        arrays["mask"] = np.where(kept, 0.0, lowest).astype(TYPES[FORMS[name].dtype])
        wide["mask"] = arrays["mask"].astype(np.float32)
        wide["mask"][wide["mask"] < -1e30] = removed  # which float64 rounds no score to
        if np.isfinite(removed):
            wide["mask"][1, ..., 8, :] = 0.0
            arrays["q"][1, :, 8] = wide["q"][1, :, 8] = 0  # the mean, as of removed keys alone
    found = kernels(name, _isas()[0], arrays, block=BLOCK, **numbers)
    assert_right(FORMS[name], found, wide, **numbers)


@pytest.mark.parametrize("name", ["additive", "boolean"])
def test_blocks_that_a_mask_removes_are_not_read(kernels: Kernels, name: str) -> None:
    arrays, numbers = tensors(FORMS[name], columns=3 * KEYS)
    kept = np.ones((2, 1, 7, 3 * KEYS), bool)
    kept[..., KEYS : 2 * KEYS] = False
    arrays["mask"] = np.where(kept, 0.0, LOWEST).astype(np.float32) if name == "additive" else kept
    arrays["k"][:, :, KEYS : 2 * KEYS] = np.nan
    assert np.isfinite(kernels(name, _isas()[0], arrays, block=BLOCK, **numbers)).all()


def test_more_queries_than_keys(kernels: Kernels) -> None:
    """The first queries see no key: NaN where their sum is divided by, else 0, or as the form says."""
    for name in ("softplus", "float16", "window"):
        arrays, numbers = tensors(FORMS[name], rows=9, columns=4)
        assert_right(
            FORMS[name], kernels(name, _isas()[0], arrays, block=BLOCK, **numbers), arrays, **numbers
        )


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "relu", "softplus", "reweighted"])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_what_is_not_a_number_stays_so(kernels: Kernels, name: str, where: str) -> None:
    """In every row that sees it. Of values, also in rows beside these, as 0 times NaN in a product is NaN."""
    arrays, numbers = tensors(FORMS[name], columns=7)
    arrays[where][0, 0, 3, 1] = np.nan
    bad = np.isnan(kernels(name, _isas()[0], arrays, block=BLOCK, **numbers))
    seeing = slice(3, 4) if where == "q" else slice(3 if FORMS[name].causal else 0, 7)
    expected = np.zeros_like(bad)
    expected[0, : 1 if where == "q" else 2, seeing, slice(1, 2) if where == "v" else slice(None)] = True
    assert bad[expected].all()
    if where != "v" or not FORMS[name].causal:
        np.testing.assert_array_equal(bad, expected)


@pytest.mark.parametrize("name", ["softmax", "additive"])
def test_large_scores(kernels: Kernels, name: str) -> None:
    """Scores of thousands: the largest decides, and nothing overflows."""
    arrays, numbers = tensors(FORMS[name], columns=2 * KEYS)
    arrays["q"] = np.round(arrays["q"] * 64)  # exact in every order of summation, so that ties are ties
    arrays["k"] = np.round(arrays["k"] * 64)
    numbers["scale"] = 0.5
    assert_right(FORMS[name], kernels(name, _isas()[0], arrays, block=BLOCK, **numbers), arrays, **numbers)


def test_the_largest_score_and_the_sum(kernels: Kernels) -> None:
    """What the gradient is made with."""
    arrays, numbers = tensors(FORMS["softmax"])
    found = np.full((2, 4, 7, 2), np.nan, np.float32)
    kernels("softmax", _isas()[0], arrays, block=BLOCK, statistics=found, **numbers)
    k = np.repeat(arrays["k"], 2, 1).astype(np.float64)
    scores = arrays["q"].astype(np.float64) @ k.swapaxes(-1, -2) * 0.3 - 0.75
    top = scores.max(-1)
    np.testing.assert_allclose(found[..., 0], top, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[..., 1], np.exp(scores - top[..., None]).sum(-1), rtol=1e-5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from(["softmax", "softmax1", "sigmoid", "softplus", "window", "all", "mean"]),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2)),
    st.tuples(st.integers(1, 30), st.integers(1, 200), st.integers(1, 40), st.integers(1, 40)),
    st.integers(1, 40),
)
def test_any_size(
    kernels: Kernels, name: str, heads: tuple[int, int, int], sizes: tuple[int, int, int, int], block: int
) -> None:
    batch, kv_heads, group = heads
    rows, columns, depth, width = sizes
    arrays, numbers = tensors(
        FORMS[name],
        batch=batch,
        heads=kv_heads * group,
        kv_heads=kv_heads,
        rows=rows,
        columns=columns,
        depth=depth,
        width=width,
    )
    assert_right(FORMS[name], kernels(name, _isas()[0], arrays, block=block, **numbers), arrays, **numbers)


def test_the_same_form_has_one_kernel_and_others_have_others() -> None:
    symbols = {
        attention_kernel(form, isa).symbol for form in FORMS.values() for isa in (AVX2, AVX512, PORTABLE)
    }
    assert len(symbols) == 3 * len(FORMS)
    sized = replace(FORMS["softmax"], head=64, value_head=32)
    assert attention_kernel(sized, AVX2) == attention_kernel(FORMS["softmax"], AVX2)


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-g++") is None, reason="there is no aarch64-linux-gnu-g++")
def test_compiles_to_vectors_of_neon(tmp_path: Path) -> None:
    kernel = attention_kernel(FORMS["all"], PORTABLE)
    source, made = tmp_path / "kernel.cpp", tmp_path / "kernel.o"
    source.write_text(kernel.text)
    command = [
        "aarch64-linux-gnu-g++",
        *kernel.flags,
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-maybe-uninitialized",
    ]
    subprocess.run([*command, "-c", str(source), "-o", str(made)], check=True)
    listing = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", made], capture_output=True, text=True, check=True
    )
    assert "fmla" in listing.stdout and ".4s" in listing.stdout


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[ctypes.CDLL, dict[str, AttentionKernel]]:
    """Kernels by products of pairs, with plain arithmetic in the place of the instruction."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    isa = replace(_isas()[0] if _isas()[0] != AVX512 else AVX2, pairs=True)
    made = {name: attention_kernel(form, isa) for name, form in OF_PAIRS.items()}
    return build(list(made.values()), tmp_path_factory.mktemp("pairs"), "pairs"), made


@pytest.mark.parametrize("depth, width", [(1, 1), (20, 12), (33, 21), (64, 40)])
@pytest.mark.parametrize("columns", [1, 2, KEYS - 1, KEYS + 5])
@pytest.mark.parametrize("name", ["additive", "capped", "swept twice"])
def test_products_of_pairs(pairs: Any, name: str, columns: int, depth: int, width: int) -> None:
    form, (library, made) = OF_PAIRS[name], pairs
    arrays, numbers = tensors(form, columns=columns, depth=depth, width=width)
    assert_right(form, run(library, made[name], arrays, block=BLOCK, **numbers), arrays, **numbers)
    turned = {key: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) for key, x in arrays.items()}
    assert_right(form, run(library, made[name], turned, block=BLOCK, **numbers), arrays, **numbers)


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
@pytest.mark.parametrize("name, isa", [("all", AVX512), ("bfloat16", AVX512_BF16)], ids=["numbers", "pairs"])
def test_compiles_for_avx512(tmp_path: Path, name: str, isa: Isa) -> None:
    kernel = attention_kernel(FORMS[name], isa)
    assert ("_mm512_dpbf16_ps" in kernel.text) == isa.pairs
    source = tmp_path / "kernel.cpp"
    source.write_text(kernel.text)
    command = ["g++", *kernel.flags, "-Wall", "-Wextra", "-Werror", "-Wno-maybe-uninitialized"]
    subprocess.run([*command, "-c", str(source), "-o", str(tmp_path / "kernel.o")], check=True)
