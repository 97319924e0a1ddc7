"""Generated kernels against their definitions in float64: every definition, instruction set and row length.

The tolerances follow from the arithmetic. A function of one number is within a few units in the last place of
float32, and so is a number of a row relative to the largest of the row, because a rounding error of a sum or
of a maximum is shared by the whole row.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tautomer.codegen.algorithms import algorithms
from tautomer.codegen.kernel import AVX2, AVX512, PORTABLE, Isa, Kernel, kernel_for, unsupported
from tautomer.errors import InputError
from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.operation import Definition, definitions
from tautomer.patterns.rows import apply_all

Array = NDArray[np.generic]
GOLDEN = Path(__file__).parent / "golden"
# but for those whose number of coefficients a model decides
DEFINITIONS = {definition.key: definition for definition in definitions() if definition.fit is None}
# the loops of a wide vector, on a machine that may not have one
SIXTEEN = Isa("sixteen", 16, ("-Wno-psabi",))
ULP = 2.0**-23
NUMPY_TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
STORED_ULP = {"float32": ULP, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def _isas() -> list[Isa]:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return [PORTABLE]
    known = {AVX2: "avx2 fma f16c", AVX512: "avx512f avx512bw avx512dq avx512vl fma"}
    return [PORTABLE, *(isa for isa, needed in known.items() if set(needed.split()) <= flags)]


ISAS = {isa.name: isa for isa in _isas()}

# (key, dtype, algorithm) of all that is built for each instruction set
BUILT = [(key, "float32", "") for key in DEFINITIONS]
STREAMED = ["RMSNormalization", "LayerNormalization", "Softmax", "Gelu[approximate=tanh]", "SwiGLU"]
BUILT += [(key, "float32", "stream") for key in STREAMED] + [("Softmax", "float32", "block")]
NARROW = ["RMSNormalization", "LayerNormalization", "Softmax", "ReduceLogSumExp", "Gelu[approximate=none]"]
NARROW += ["Relu"]
BUILT += [(key, dtype, "") for key in NARROW for dtype in ("float16", "bfloat16")]
BUILT += [("RMSNormalization", dtype, "stream") for dtype in ("float16", "bfloat16")]
JOINED = "AddRMSNormalizationWithSum"
BUILT += [(JOINED, "float32", "stream"), (JOINED, "bfloat16", ""), (JOINED, "float16", "stream")]
ON_SIXTEEN = [
    ("LayerNormalization", "float32", ""),
    ("Softmax", "float32", "block"),
    ("Swish", "bfloat16", "stream"),
]


def build(kernels: list[Kernel], folder: Path, name: str) -> ctypes.CDLL:
    """Compiles kernels of one instruction set, as one text."""
    source, library = folder / f"{name}.cpp", folder / f"{name}.so"
    source.write_text("".join({kernel.symbol: kernel.text for kernel in kernels}.values()))
    command = ["g++", *kernels[0].flags, "-Wall", "-Wextra", "-Werror", "-Wno-maybe-uninitialized"]
    subprocess.run([*command, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def gplusplus() -> None:
    """Skips what needs a compiler where there is none."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory, gplusplus: None) -> Callable[[Isa], ctypes.CDLL]:
    """One library for each instruction set, built when first asked for."""
    folder, built = tmp_path_factory.mktemp("kernels"), dict[str, ctypes.CDLL]()

    def library(isa: Isa) -> ctypes.CDLL:
        if isa.name not in built:
            what = ON_SIXTEEN if isa is SIXTEEN else BUILT
            kernels = [kernel(key, dtype, algorithm, isa) for key, dtype, algorithm in what]
            built[isa.name] = build(kernels, folder, isa.name)
        return built[isa.name]

    return library


def kernel(key: str, dtype: str, algorithm: str, isa: Isa) -> Kernel:
    return kernel_for(DEFINITIONS[key], dtype=dtype, isa=isa, algorithm=algorithm)


def at_offset(values: Array, offset: int) -> Array:
    """A copy that begins so many bytes after a multiple of 64, with room behind it."""
    room = np.zeros(values.nbytes + 256, np.uint8)
    start = -room.ctypes.data % 64 + offset
    copy = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def run(library: ctypes.CDLL, made: Kernel, x: Array, *operands: Array, folded: bool = False) -> Array:
    """The only result of a kernel, see `run_all`."""
    (result,) = run_all(library, made, 1, x, *operands, folded=folded)
    return result


def run_all(
    library: ctypes.CDLL, made: Kernel, results: int, x: Array, *operands: Array, folded: bool = False
) -> list[Array]:
    """Calls a kernel on unaligned copies and checks that it wrote nothing around its results."""
    rows, columns = x.shape
    count = rows if folded else x.size
    inputs = [at_offset(array, x.itemsize * (i + 1)) for i, array in enumerate((x, *operands))]
    guard = 64
    arounds = [np.full(count * x.itemsize + 2 * guard + 64, 0xA5, np.uint8) for _ in range(results)]
    # the results do not begin at the same place of a line
    starts = [-a.ctypes.data % 64 + guard - x.itemsize * (i + 1) for i, a in enumerate(arounds)]
    parameters = definition_parameters(made)
    function = getattr(library, made.symbol)
    function.restype = None
    function(
        (ctypes.c_void_p * len(inputs))(*(array.ctypes.data for array in inputs)),
        (ctypes.c_void_p * results)(*(a.ctypes.data + s for a, s in zip(arounds, starts, strict=True))),
        (ctypes.c_double * max(1, len(parameters)))(*parameters),
        ctypes.c_int64(0),
        ctypes.c_int64(rows if made.rows else x.size),
        ctypes.c_int64(columns),
    )
    found = []
    for around, start in zip(arounds, starts, strict=True):
        end = start + count * x.itemsize
        assert (around[:start] == 0xA5).all(), "written before the result"
        assert (around[end:] == 0xA5).all(), "written after the result"
        found.append(around[start:end].view(x.dtype).reshape((rows, 1) if folded else x.shape).copy())
    return found


def definition_parameters(made: Kernel) -> list[float]:
    defaults = {name: value for one in DEFINITIONS.values() for name, value in one.parameters.items()}
    return [PARAMETERS.get(name, defaults[name]) for name in made.parameters]


# other numbers than the defaults, so that none of them can be built into a kernel
PARAMETERS = {"epsilon": 0.0009765625, "alpha": 0.71875, "beta": 0.4375, "gamma": 1.125, "bias": 0.125}
PARAMETERS |= {"threshold": 0.25, "lambd": 0.625}


def expected(definition: Definition, x: Array, operands: tuple[Array, ...]) -> NDArray[np.float64]:
    """The only result of a definition in float64."""
    (result,) = expected_all(definition, x, operands)
    return result


def expected_all(definition: Definition, x: Array, operands: tuple[Array, ...]) -> list[NDArray[np.float64]]:
    """The definition in float64."""
    wide = [array.astype(np.float64) for array in operands]
    parameters = {name: PARAMETERS.get(name, value) for name, value in definition.parameters.items()}
    results = apply_all(
        definition,
        Float64(),
        x.astype(np.float64),
        axes=(1,) if definition.rows else (),
        operands=dict(zip(definition.operands, wide, strict=True)),
        parameters=parameters,
    )
    return [np.asarray(result, np.float64) for result in results]


def operands_of(definition: Definition, shape: tuple[int, int], random: np.random.Generator) -> list[Array]:
    rows = [definition.kind(name) == "row" for name in definition.operands]
    if definition.channels:  # deviations are among them, from which others are subtracted
        return [random.uniform(0.5, 2.0, shape[1:] if row else shape) for row in rows]
    return [random.normal(1.0, 0.5, shape[1:] if row else shape) for row in rows]


def assert_close(found: Array, right: NDArray[np.float64], x: Array, dtype: str, rows: bool) -> None:
    """Special values exactly; numbers to 8 units in the last place of float32 and the rounding to storage."""
    found = found.astype(np.float64)
    info = ml_dtypes.finfo(NUMPY_TYPES[dtype])
    narrow = dtype != "float32"
    with np.errstate(invalid="ignore"):
        overflows = np.abs(right) > float(info.max) * (1 + STORED_ULP[dtype] / 4)
    right = np.where(overflows, np.copysign(np.inf, right), right)
    finite = np.isfinite(right)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(right))
    np.testing.assert_array_equal(found[~finite], right[~finite])
    sizes = np.where(finite, np.abs(right), 0.0)
    if rows:
        scale = np.broadcast_to(sizes.max(axis=1, keepdims=True, initial=0.0), sizes.shape)
    else:
        # what cancels in x / 2 * (1 + erf(x)) and the like has the size of x, and near 0 only
        scale = np.maximum(sizes, 2 * np.fmin(np.abs(x.astype(np.float64)), 1.0))
    # three roundings of denormal numbers, and that to storage
    tiny = 4 * 2.0**-149 + (float(info.smallest_subnormal) if narrow else 0.0)
    allowed = 8 * ULP * scale + (STORED_ULP[dtype] / 2 * sizes if narrow else 0.0) + tiny
    error = np.abs(np.where(finite, found, 0.0) - np.where(finite, right, 0.0))
    worst = np.argmax(error / allowed)
    assert (error <= allowed).all(), (
        f"{found.flat[worst]!r} where {right.flat[worst]!r} is right, for x = {x.flat[worst]!r}"
    )


def rows_of(columns: int, random: np.random.Generator) -> Array:
    """Ordinary, far from zero, spread out, and tiny."""
    scales = np.array([[1.0], [1.0], [30.0], [1e-40]])
    offsets = np.array([[0.0], [1e4], [-5.0], [0.0]])
    return random.normal(size=(4, columns)) * scales + offsets


def special_rows(columns: int, random: np.random.Generator) -> Array:
    """A NaN, an infinity, masked elements, only masked elements, only the smallest number."""
    x = random.normal(size=(6, columns)) * 3
    x[0, columns // 2], x[1, columns - 1], x[2, 0] = np.nan, np.inf, -np.inf
    x[3, :], x[4, :], x[5, : columns // 2] = -np.inf, -3.4e38, -np.inf
    return x


def at_thresholds(x: Array, operands: tuple[Array, ...], made: Kernel) -> None:
    """Puts thresholds and bounds into x: on which side they are themselves, nothing else shows."""
    numbers = definition_parameters(made)[: x.shape[1]]
    x[0, : len(numbers)] = numbers
    if operands and operands[0].ndim == 1:
        x[1] = operands[0]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("key", "dtype", "algorithm"), BUILT)
def test_a_kernel_computes_its_definition(
    libraries: Callable[[Isa], ctypes.CDLL], key: str, dtype: str, algorithm: str, isa: str
) -> None:
    check(libraries(ISAS[isa]), key, dtype, algorithm, ISAS[isa])


@pytest.mark.parametrize(("key", "dtype", "algorithm"), ON_SIXTEEN)
def test_the_loops_of_wide_vectors(
    libraries: Callable[[Isa], ctypes.CDLL], key: str, dtype: str, algorithm: str
) -> None:
    check(libraries(SIXTEEN), key, dtype, algorithm, SIXTEEN)


def check(library: ctypes.CDLL, key: str, dtype: str, algorithm: str, isa: Isa) -> None:
    definition, made = DEFINITIONS[key], kernel(key, dtype, algorithm, isa)
    folded = definition.rows == "folded"
    random = np.random.default_rng(7)
    for columns in (1, isa.lanes - 1, isa.lanes, isa.lanes + 1, 4 * isa.lanes + 3, 1000, 2500):
        for make in (rows_of, special_rows):
            with np.errstate(over="ignore"):
                x = make(columns, random).astype(NUMPY_TYPES[dtype])
                if "residual" in definition.operands:
                    x[1] -= 1e4  # what adding the residual rounds away is not there to be normalised
            if "oftmax" not in key and "LogSumExp" not in key:
                x[np.isfinite(x) & (np.abs(x.astype(np.float64)) > 1e30)] = 1.0  # the square is infinite
            operands = tuple(
                array.astype(NUMPY_TYPES[dtype]) for array in operands_of(definition, x.shape, random)
            )
            if not definition.rows:
                at_thresholds(x, operands, made)
            found = run_all(library, made, len(definition.results), x, *operands, folded=folded)
            for one, right in zip(found, expected_all(definition, x, operands), strict=True):
                assert_close(one, right, x, dtype, bool(definition.rows))


# Functions of one number that definitions may use, over all that float32 holds, and how exact they are.
FUNCTIONS: dict[str, tuple[Callable[..., object], float]] = {
    "exp": (lambda m, x: m.exp(x), 2),
    "exp of what is negative": (lambda m, x: m.exp(-m.abs(x)), 2),
    "expm1": (lambda m, x: m.expm1(x), 3),
    "log": (lambda m, x: m.log(x), 2),
    "log1p": (lambda m, x: m.log1p(x), 3),
    "tanh": (lambda m, x: m.tanh(x), 4),
    "sigmoid": (lambda m, x: m.sigmoid(x), 3),
    "erf": (lambda m, x: m.erf(x), 4),
    "sqrt": (lambda m, x: m.sqrt(x), 0.5),
    "rsqrt": (lambda m, x: m.rsqrt(x), 1.5),
    "abs": (lambda m, x: m.abs(x), 0),
    "maximum": (lambda m, x: m.maximum(1.0 - x, x), 0.5),
    "minimum": (lambda m, x: m.minimum(0.5, m.minimum(x, -x)), 0),
    "where": (lambda m, x: m.where(m.compare("<=", x, 1.0), 3.0, x), 0),
    "equal": (lambda m, x: m.where(m.compare("==", x, 1.0), x, 2.0), 0),
}


def every_size(random: np.random.Generator) -> Array:
    """Numbers of both signs from denormal to huge, where functions bend, and the special ones."""
    sizes = np.exp2(np.linspace(-149, 127.99, 30000))
    bends = random.uniform(-110, 95, 30000)
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 2.0**-149, 3.4028235e38, -104.0, -103.9, 88.73]
    return np.concatenate([sizes, -sizes, bends, special]).astype(np.float32)


@pytest.mark.parametrize("isa", ISAS)
def test_functions_of_one_number(tmp_path: Path, gplusplus: None, isa: str) -> None:
    of = {name: Definition(name, function) for name, (function, _) in FUNCTIONS.items()}
    made = {name: kernel_for(definition, isa=ISAS[isa]) for name, definition in of.items()}
    library = build(list(made.values()), tmp_path, "functions")
    x = every_size(np.random.default_rng(3))[None, :]
    for name, (_, ulps) in FUNCTIONS.items():
        found = run(library, made[name], x).astype(np.float64)
        right = expected(of[name], x, ())
        with np.errstate(over="ignore"):
            right = np.where(np.abs(right) > 3.40282357e38, np.copysign(np.inf, right), right)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(right), err_msg=name)
        finite = np.isfinite(right)
        np.testing.assert_array_equal(found[np.isinf(right)], right[np.isinf(right)], err_msg=name)
        # half a unit more for the number that is rounded to begin with
        unit = np.spacing(np.minimum(np.abs(right[finite]), 3e38).astype(np.float32)).astype(np.float64)
        error = np.abs(found[finite] - right[finite]) / unit
        worst = int(np.argmax(error))
        assert error[worst] <= ulps + 0.51, f"{name} of {x[finite][worst]!r}: {error[worst]:.2f} ulp"


def test_rows_may_be_given_out_in_parts_and_overwritten(
    libraries: Callable[[Isa], ctypes.CDLL],
) -> None:
    isa = list(ISAS.values())[-1]
    library, random = libraries(isa), np.random.default_rng(5)
    for key, algorithm in (("Softmax", ""), ("Softmax", "block"), ("RMSNormalization", "stream")):
        made = kernel(key, "float32", algorithm, isa)
        x = random.normal(size=(5, 70)).astype(np.float32)
        operands = [array.astype(np.float32) for array in operands_of(DEFINITIONS[key], x.shape, random)]
        whole, parts = run(library, made, x, *operands), x.copy()
        inputs = (ctypes.c_void_p * 2)(parts.ctypes.data, *(array.ctypes.data for array in operands))
        outputs = (ctypes.c_void_p * 1)(parts.ctypes.data)
        values = (ctypes.c_double * 1)(*definition_parameters(made))
        for first, last in ((3, 5), (0, 3), (4, 4)):
            columns = ctypes.c_int64(70)
            getattr(library, made.symbol)(
                inputs, outputs, values, ctypes.c_int64(first), ctypes.c_int64(last), columns
            )
        np.testing.assert_allclose(parts, whole, rtol=4 * ULP, atol=1e-30)


def test_two_results_may_take_the_places_of_both_inputs(libraries: Callable[[Isa], ctypes.CDLL]) -> None:
    isa = list(ISAS.values())[-1]
    library, random = libraries(isa), np.random.default_rng(5)
    for algorithm in ("", "stream"):
        made = kernel(JOINED, "float32", algorithm, isa)
        x = random.normal(size=(5, 70)).astype(np.float32)
        residual, scale = (
            array.astype(np.float32) for array in operands_of(DEFINITIONS[JOINED], x.shape, random)
        )
        apart = run_all(library, made, 2, x, residual, scale)
        addresses = [array.ctypes.data for array in (x, residual, scale)]
        getattr(library, made.symbol)(
            (ctypes.c_void_p * 3)(*addresses),
            (ctypes.c_void_p * 2)(*addresses[:2]),
            (ctypes.c_double * 1)(*definition_parameters(made)),
            *(ctypes.c_int64(number) for number in (0, 5, 70)),
        )
        np.testing.assert_array_equal([x, residual], apart)


def test_long_rows_keep_their_digits(libraries: Callable[[Isa], ctypes.CDLL]) -> None:
    """A float32 sum of a million terms, one after the other, would lose three digits."""
    isa = list(ISAS.values())[-1]
    x = np.random.default_rng(11).normal(size=(1, 1_100_000)).astype(np.float32)
    right = expected(DEFINITIONS["Softmax"], x, ())
    for algorithm in ("", "block", "stream"):
        found = run(libraries(isa), kernel("Softmax", "float32", algorithm, isa), x)
        np.testing.assert_allclose(found, right, rtol=3e-6)


def test_a_mean_far_from_zero_costs_nothing(libraries: Callable[[Isa], ctypes.CDLL]) -> None:
    isa = list(ISAS.values())[-1]
    x = (np.random.default_rng(13).normal(size=(3, 4096)) + 1e5).astype(np.float32)
    definition = DEFINITIONS["LayerNormalization"]
    operands = (np.ones(4096, np.float32), np.zeros(4096, np.float32))
    found = run(libraries(isa), kernel(definition.key, "float32", "", isa), x, *operands)
    assert np.abs(found - expected(definition, x, operands)).max() < 8 * ULP


def test_every_definition_has_a_kernel() -> None:
    assert {key: reason for key in DEFINITIONS if (reason := unsupported(DEFINITIONS[key]))} == {}


@pytest.mark.parametrize(
    ("rows", "function", "reason"),
    [
        ("", lambda m, x: m.sin(x), "sin of a value"),
        ("", lambda m, x: x - m.mean(x), "where there are no rows"),
        ("trailing", lambda m, x: m.sum(1.0), "the same for the whole row"),
        ("folded", lambda m, x: x * 2.0, "not one number per row"),
        ("", lambda m, x: m.where(x, x, 0.0), "a choice by what is no comparison"),
    ],
)
def test_what_has_no_kernel_is_refused_with_a_reason(
    rows: str, function: Callable[..., object], reason: str
) -> None:
    definition = Definition("Odd", function, rows)  # type: ignore[arg-type]
    assert reason in unsupported(definition)
    with pytest.raises(InputError, match=reason):
        kernel_for(definition, isa=PORTABLE)


def test_what_is_asked_for_has_to_exist() -> None:
    softmax = DEFINITIONS["Softmax"]
    assert algorithms("Softmax") == ("stream", "block", "extended", "lane")
    assert algorithms("Softmax", "float16") == algorithms("Relu") == ("stream",)
    for options in ({"dtype": "float64"}, {"algorithm": "odd"}, {"operands": ("scale",)}):
        with pytest.raises(InputError, match="no "):
            kernel_for(softmax, isa=PORTABLE, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no algorithm block"):
        kernel_for(softmax, isa=PORTABLE, dtype="float16", algorithm="block")


def test_a_kernel_is_named_by_its_content() -> None:
    norm = DEFINITIONS["LayerNormalization"]
    one = kernel_for(norm, isa=AVX2)
    assert one == kernel_for(norm, isa=AVX2)
    others = [kernel_for(norm, isa=PORTABLE), kernel_for(norm, isa=AVX2, operands=("scale",))]
    others.append(kernel_for(norm, isa=AVX2, dtype="float16"))
    assert len({one.symbol, *(other.symbol for other in others)}) == 4
    assert others[1].operands == ("scale",) and "bias" not in others[1].text
    # a name that a definition brings along stays outside
    evil = Definition('x"; } //', lambda m, x, *, epsilon: x + epsilon, parameters={"epsilon": 1.0})
    assert evil.op not in kernel_for(evil, isa=PORTABLE).text


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_text_for_avx512_compiles_anywhere(tmp_path: Path, gplusplus: None, dtype: str) -> None:
    keys = ("LayerNormalization", "Softmax", "Celu", "Mish", "Gelu[approximate=none]")
    made = [kernel(key, dtype, "stream", AVX512) for key in keys]
    source = tmp_path / "all.cpp"
    source.write_text("".join(one.text for one in made))
    subprocess.run(
        ["g++", *made[0].flags, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", source], check=True
    )


@pytest.mark.parametrize(
    ("name", "key", "dtype", "algorithm", "isa"),
    [
        ("layer_normalization_avx2", "LayerNormalization", "float32", "", AVX2),
        ("softmax_portable", "Softmax", "float16", "", PORTABLE),
        ("gelu_tanh_avx512_stream", "Gelu[approximate=tanh]", "bfloat16", "stream", AVX512),
    ],
)
def test_the_text_is_what_it_was(name: str, key: str, dtype: str, algorithm: str, isa: Isa) -> None:
    """With TAUTOMER_REMAKE_GOLDEN set, the stored texts are written anew, to be read in the change."""
    made, stored = kernel(key, dtype, algorithm, isa), GOLDEN / f"{name}.cpp"
    if "TAUTOMER_REMAKE_GOLDEN" in os.environ:
        stored.write_text(made.text)
    assert stored.read_text() == made.text
