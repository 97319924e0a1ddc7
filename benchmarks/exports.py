"""ONNX exports of the common architectures, as both exporters of torch spell them.

    python -m benchmarks.exports --out DIR [--family gpt2 ...] [--quick]

Inputs and outputs are plain tensors without a cache. Files are kept: an export is made again only when its
specification, the models or a library version changed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import inspect
import json
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.specs import EXPORT_SIZES, FAMILIES, MORE_FAMILIES, ExportSpec, expected, quick, specs

__all__ = ["ExportFailed", "ExportSpec", "expected", "export", "quick", "silence", "specs", "write_export"]

_LIBRARIES = ("torch", "transformers", "onnx", "onnxscript")
# What an export is made of besides its specification.
_SOURCES = (
    *("families.py", "families_text.py", "families_vision.py"),
    *("builders.py", "blocks.py", "models.py"),
)


class ExportFailed(Exception):
    """The exporter itself refused; the text is its reason in one line."""


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Discards what exporters print, also from native code, and their warnings."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with Path(os.devnull).open("w") as void, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for descriptor in (1, 2):
                os.dup2(void.fileno(), descriptor)
            with contextlib.redirect_stdout(void), contextlib.redirect_stderr(void):
                yield
    finally:
        logging.disable(disabled)
        for descriptor, old in zip((1, 2), kept, strict=True):
            os.dup2(old, descriptor)
            os.close(old)


@functools.cache
def _read_once() -> None:
    """Lets the exporter keep its table of operators, which it parses anew for every model (1 s of 3)."""
    from onnxscript._framework_apis import torch_2_5

    torch_2_5.get_torchlib_ops = functools.cache(torch_2_5.get_torchlib_ops)


def write_export(spec: ExportSpec, path: Path) -> None:
    """Runs the exporter, without a cache."""
    with silence():
        import torch

        with contextlib.suppress(ImportError, AttributeError):  # nothing that the exporter promises
            _read_once()
        from benchmarks.families import FAMILIES as families

        family = families[spec.family]
        module = family.module(spec.attention)
        example = tuple(torch.from_numpy(value) for value in family.sample(EXPORT_SIZES, seed=1).values())
        names = [item.name for item in family.inputs]
        options: dict[str, Any] = {"input_names": names, "output_names": family.results}
        dynamo = spec.exporter == "dynamo"
        if spec.shapes == "dynamic" and dynamo:
            options["dynamic_shapes"] = tuple(item.axes for item in family.inputs)
        elif spec.shapes == "dynamic":
            options["dynamic_axes"] = {item.name: item.axes for item in family.inputs}
        if dynamo:
            options["external_data"] = False
        with torch.no_grad():
            torch.onnx.export(module, example, path, dynamo=dynamo, opset_version=spec.opset, **options)


def _key(spec: ExportSpec) -> str:
    sources = [Path(__file__).with_name(name).read_text() for name in _SOURCES]
    libraries = [f"{library} {version(library)}" for library in _LIBRARIES]
    text = "\n".join([repr(spec), *libraries, *sources, inspect.getsource(write_export)])
    return hashlib.sha256(text.encode()).hexdigest()


def _one_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def export(spec: ExportSpec, folder: Path) -> Path:
    """The file of this export in the folder, made if it is not there yet; by one process, while others wait.

    Raises:
        ExportFailed: torch cannot export this model in this way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{spec.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _kept(spec, folder)


def _kept(spec: ExportSpec, folder: Path) -> Path:
    path, facts = folder / f"{spec.name}.onnx", folder / f"{spec.name}.json"
    key = _key(spec)
    known = json.loads(facts.read_text()) if facts.exists() else {}
    if known.get("key") != key:
        known = {"key": key, "failure": "", "seconds": 0.0}
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / path.name
            try:
                write_export(spec, made)
            except Exception as error:
                known["failure"] = _one_line(error)
            else:
                made.replace(path)
            known["seconds"] = round(time.perf_counter() - start, 2)
            noted = Path(scratch) / facts.name
            noted.write_text(json.dumps(known))
            noted.replace(facts)
    if known["failure"]:
        raise ExportFailed(known["failure"])
    return path


def main(arguments: list[str] | None = None) -> int:
    """Exports, and prints a table of what came of it."""
    import onnx

    parser = argparse.ArgumentParser(prog="python -m benchmarks.exports", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument(
        "--family", action="append", choices=(*FAMILIES, *MORE_FAMILIES), help="only this one (repeatable)"
    )
    parser.add_argument("--quick", action="store_true", help="only one export a family and exporter")
    options = parser.parse_args(arguments)
    chosen = [
        s for s in (quick() if options.quick else specs()) if s.family in (options.family or [s.family])
    ]
    rows = []
    for done, spec in enumerate(chosen, 1):
        print(f"[{done}/{len(chosen)}] {spec.name}", file=sys.stderr, flush=True)
        try:
            path = export(spec, options.out)
        except ExportFailed as error:
            rows.append(f"| {spec.name} | - | - | - | {error} |")
            continue
        nodes = len(onnx.load(path, load_external_data=False).graph.node)
        seconds = json.loads(path.with_suffix(".json").read_text())["seconds"]
        rows.append(f"| {spec.name} | {nodes} | {path.stat().st_size // 1024} | {seconds:.1f} | |")
    print("| export | nodes | KiB | seconds | why not |\n|---|---|---|---|---|", *rows, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
