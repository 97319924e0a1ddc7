"""How numbers lie in memory, as C++ text: loads widen to float32, stores round to nearest even.

Pointers have any alignment. A partial vector touches only the elements that are there; unused lanes read 0.
"""

from __future__ import annotations

from tautomer.codegen.isa import Isa

DTYPE_OF = {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16"}
"""ONNX's name of an element type -> the one that kernels have."""
DTYPES = tuple(DTYPE_OF.values())

_FLOAT32 = """\
typedef float S;
typedef V Stored;
INLINE V widened(Stored v) { return v; }
INLINE Stored narrowed(V v) { return v; }
"""

_HALVES = """\
typedef uint16_t S;
typedef uint16_t Stored __attribute__((vector_size(2 * LANES)));
"""

_BFLOAT16 = """\
typedef uint32_t U __attribute__((vector_size(4 * LANES)));
INLINE V widened(Stored v) { return (V)(__builtin_convertvector(v, U) << 16); }
INLINE Stored narrowed(V v) {
  const U bits = (U)v;
  const U even = bits + 0x7fffu + ((bits >> 16) & 1u);
  const U quiet = bits | 0x400000u;  // of a NaN, which rounding could carry over into infinity
  return __builtin_convertvector((v == v ? even : quiet) >> 16, Stored);
}
"""

# 2^112 moves the exponent of a half to that of a float, denormal halves included
_FLOAT16 = """\
typedef uint32_t U __attribute__((vector_size(4 * LANES)));
INLINE V widened(Stored v) {
  const U bits = __builtin_convertvector(v, U);
  const U magnitude = bits & 0x7fffu;
  const V finite = (V)(magnitude << 13) * 0x1p112f;
  const U special = (magnitude << 13) | 0x7f800000u;
  const U sign = (bits & 0x8000u) << 16;
  return (V)((magnitude > 0x7bffu ? special : (U)finite) | sign);
}
INLINE Stored narrowed(V v) {
  const U bits = (U)v, sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  const U normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const U denormal = (U)((V)magnitude + 0.5f) - 0x3f000000u;  // the addition rounds
  const U large = magnitude > 0x7f800000u ? (U{} + 0x7e00u) : (U{} + 0x7c00u);
  const U finite = magnitude < 0x38800000u ? denormal : normal;
  return __builtin_convertvector((magnitude >= 0x477ff000u ? large : finite) | sign, Stored);
}
"""

_FLOAT16_AVX2 = """\
INLINE V widened(Stored v) { return (V)_mm256_cvtph_ps((__m128i)v); }
INLINE Stored narrowed(V v) {
  return (Stored)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
"""

_FLOAT16_AVX512 = """\
INLINE V widened(Stored v) { return (V)_mm512_cvtph_ps((__m256i)v); }
INLINE Stored narrowed(V v) {
  return (Stored)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
"""

_WHOLE = """\
typedef Stored Anywhere __attribute__((aligned(1), may_alias));
INLINE V load(const S* p) { return widened(*(const Anywhere*)p); }
INLINE void store(S* p, V v) { *(Anywhere*)p = narrowed(v); }
"""

_PART = """\
INLINE V load_part(const S* p, int64_t count) {
  Stored part = {};
  for (size_t i = 0; i < (size_t)count * sizeof(S); i += sizeof(S))
    std::memcpy((char*)&part + i, (const char*)p + i, sizeof(S));
  return widened(part);
}
INLINE void store_part(S* p, V v, int64_t count) {
  const Stored part = narrowed(v);
  for (size_t i = 0; i < (size_t)count * sizeof(S); i += sizeof(S))
    std::memcpy((char*)p + i, (const char*)&part + i, sizeof(S));
}
"""

_PART_AVX2 = """\
INLINE V load_part(const S* p, int64_t count) {
  return (V)_mm256_maskload_ps(p, (__m256i)first_lanes(count));
}
INLINE void store_part(S* p, V v, int64_t count) {
  _mm256_maskstore_ps(p, (__m256i)first_lanes(count), (__m256)v);
}
"""

_PART_AVX512 = """\
INLINE V load_part(const S* p, int64_t count) {
  return (V)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1u), p);
}
INLINE void store_part(S* p, V v, int64_t count) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1u), (__m512)v);
}
"""

_PART_AVX512_HALVES = """\
INLINE V load_part(const S* p, int64_t count) {
  return widened((Stored)_mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1u), p));
}
INLINE void store_part(S* p, V v, int64_t count) {
  _mm256_mask_storeu_epi16(p, (__mmask16)((1u << count) - 1u), (__m256i)narrowed(v));
}
"""

# of rows and totals, beside tensors of a narrow type
_SINGLE = """\
typedef V AnywhereSingle __attribute__((aligned(1), may_alias));
INLINE V load(const float* p) { return *(const AnywhereSingle*)p; }
INLINE void store(float* p, V v) { *(AnywhereSingle*)p = v; }
INLINE V load_part(const float* p, int64_t count) {
  V part = {};
  std::memcpy(&part, p, (size_t)count * sizeof(float));
  return part;
}
INLINE void store_part(float* p, V v, int64_t count) { std::memcpy(p, &v, (size_t)count * sizeof(float)); }
"""

# A processor fetches what follows in memory by itself, but not past the end of a page, where a row of 4 KiB
# ends, and little while it is busy with arithmetic. Asking for memory that is not there does nothing.
AHEAD = """\
// four vectors from p on are going to be read, or written
INLINE void soon_read(uintptr_t p) {
  for (size_t i = 0; i < 4 * sizeof(Stored); i += 64) __builtin_prefetch((const void*)(p + i), 0, 3);
}
INLINE void soon_written(uintptr_t p) {
  for (size_t i = 0; i < 4 * sizeof(Stored); i += 64) __builtin_prefetch((const void*)(p + i), 1, 3);
}
"""

_STREAM = """\
INLINE void put(bool past_the_cache, S* p, V v) {{
  if (past_the_cache) {{
    {stream};
  }} else {{
    store(p, v);
  }}
}}
// how many elements come before the first that a whole vector may be streamed to; -1: there is none
INLINE int64_t before_aligned(const S* p) {{
  const uintptr_t address = (uintptr_t)p;
  if (address % sizeof(S)) return -1;
  return (int64_t)((sizeof(Stored) - address % sizeof(Stored)) % sizeof(Stored) / sizeof(S));
}}
"""

_STREAMS = {
    ("avx512", "float32"): "_mm512_stream_ps(p, (__m512)v)",
    ("avx2", "float32"): "_mm256_stream_ps(p, (__m256)v)",
    ("avx512", "halves"): "_mm256_stream_si256((__m256i*)p, (__m256i)narrowed(v))",
    ("avx2", "halves"): "_mm_stream_si128((__m128i*)p, (__m128i)narrowed(v))",
}


def storage(dtype: str, isa: Isa) -> str:
    """Loads and stores of a type."""
    if dtype == "float32":
        part = {"avx2": _PART_AVX2, "avx512": _PART_AVX512}.get(isa.name, _PART)
        return "\n".join((_FLOAT32, _WHOLE, part))
    convert = _BFLOAT16
    if dtype == "float16":
        convert = {"avx2": _FLOAT16_AVX2, "avx512": _FLOAT16_AVX512}.get(isa.name, _FLOAT16)
    part = _PART_AVX512_HALVES if isa.name == "avx512" else _PART
    return "\n".join((_HALVES + convert, _WHOLE, part))


def singles(dtype: str) -> str:
    """Loads and stores of float32 beside those of the type that tensors have."""
    return "" if dtype == "float32" else _SINGLE


def streams(dtype: str, isa: Isa) -> str:
    """Stores that leave the caches alone; plain stores where the instruction set has none."""
    kind = "float32" if dtype == "float32" else "halves"
    return _STREAM.format(stream=_STREAMS.get((isa.name, kind), "store(p, v)"))


def fence(isa: Isa) -> tuple[str, ...]:
    """What a function has to do after it streamed."""
    return ("_mm_sfence();",) if isa.name in ("avx2", "avx512") else ()
