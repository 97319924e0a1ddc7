"""Triton kernels and models on a GPU beside eager torch and inductor: checks, then times.

    python -m benchmarks.gpu [--only NAME] [--minutes 6.5] [--out DIR] [--rehearse]

Every kernel is compared with float64 before it is timed. Times are of the device, in turns, medians; kernels
are replayed from CUDA graphs over sets of inputs that no cache holds. What fails is a row with its error.
Sections share the time that is left; what there is no time for is said. gpu.json is written anew after every
row, so that a run that is cut short leaves what it had.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.gpu_case import OURS, Case, Check, Place
from tautomer.runtime.triton.first_run import SWITCH


@dataclass(frozen=True)
class Section:
    """Checks or cases.

    Attributes:
        name: by which it is asked for.
        module: of benchmarks.
        function: of the module: gives the checks or cases.
        share: of the time, in parts.
        threads: that may do its checks.
        asked: whether it is left out unless it is asked for.
    """

    name: str
    module: str
    function: str
    share: float
    threads: int = 1
    asked: bool = False


SECTIONS = (
    Section("check-rows", "gpu_rows", "checks", 6, 12),
    Section("softmax", "gpu_rows", "softmax_cases", 3),
    Section("check-shared", "gpu_tiles", "shared_checks", 1),
    Section("softmax-long", "gpu_tiles", "long_softmax", 3),
    Section("check-sparse", "gpu_sparse", "checks", 2, 12),
    Section("sparse", "gpu_sparse", "cases", 3),
    Section("check-models", "gpu_models", "checks", 2),
    Section("models", "gpu_models", "cases", 7),
    Section("check-attention", "gpu_attention", "checks", 5, 12),
    Section("attention", "gpu_attention", "cases", 9),
    Section("norms", "gpu_rows", "cases", 5),
    Section("check-compiled", "gpu_compiled", "checks", 3),
    Section("tuning", "gpu_tiles", "tuning", 4, asked=True),
    Section("shared", "gpu_tiles", "shared_rows", 2, asked=True),
    Section("check-tilings", "gpu_attention", "tiling_checks", 3, asked=True),
    Section("tilings", "gpu_attention", "tiling_cases", 5, asked=True),
)


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables, and writes them as JSON; 1 where a check failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="a section (repeatable), or the start of its name")
    parser.add_argument("--minutes", type=float, default=6.5, help="for everything (default: 6.5)")
    parser.add_argument("--out", type=Path, help="a folder for gpu.json")
    parser.add_argument("--rehearse", action="store_true", help="tiny tensors on the CPU, interpreted")
    options = parser.parse_args(arguments)
    # what inductor's own processes run into would be told as one line
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    # every kernel is checked here, and a process for each would take the time of the measurements
    os.environ.setdefault(SWITCH, "0")
    if options.rehearse and os.environ.get("TRITON_INTERPRET") != "1":
        # triton looks at this when it is imported
        command = [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            *(sys.argv[1:] if arguments is None else arguments),
        ]
        os.execve(sys.executable, command, {**os.environ, "TRITON_INTERPRET": "1"})
    return Run(options.rehearse, options.minutes, options.out).all(options.only or [""])


class Run:
    """One run.

    Args:
        rehearsal: see `Place`.
        minutes: for everything.
        out: a folder for the results.
    """

    def __init__(self, rehearsal: bool, minutes: float, out: Path | None) -> None:
        import torch

        if not rehearsal and not torch.cuda.is_available():
            raise SystemExit("there is no GPU here; --rehearse runs everything on the CPU once")
        self.place = Place("cpu" if rehearsal else "cuda", rehearsal)
        self.begun, self.end = time.monotonic(), time.monotonic() + 60 * minutes
        self.out = out
        self.results: dict[str, Any] = {"facts": self.facts(), "checks": [], "cases": []}
        self.ceilings: dict[str, float] = {}

    def facts(self) -> dict[str, Any]:
        """What it runs on."""
        import torch
        import triton

        name = "the CPU, interpreted"
        if not self.place.rehearsal:
            name = torch.cuda.get_device_name()
        verified = find_spec("flint") is not None
        versions = {"torch": torch.__version__, "triton": triton.__version__}
        python = sys.version.split()[0]
        return {"device": name, **versions, "python": python, "models verified": verified}

    def all(self, wanted: list[str]) -> int:
        """Runs the sections."""
        from benchmarks.gpu_timing import ceilings, told

        print(json.dumps(self.results["facts"]), flush=True)
        if not self.place.rehearsal:
            Thread(target=self.operators, daemon=True).start()
        sections = [
            one
            for one in SECTIONS
            if any(one.name.startswith(name) and (name or not one.asked) for name in wanted)
        ]
        try:
            self.ceilings = dict(ceilings(self.place))
        except Exception as error:
            print(f"ceilings: {told(error)}", flush=True)
        self.results["ceilings"] = self.ceilings
        print(f"copy {self.ceilings.get('copy', 0) / 1e12:.2f} TB/s read and written,", end=" ")
        print(f"matrix product {self.ceilings.get('matrix', 0) / 1e12:.0f} TFLOP/s", flush=True)
        for index, section in enumerate(sections):
            left = sum(one.share for one in sections[index:])
            until = time.monotonic() + (self.end - time.monotonic()) * section.share / left
            try:
                self.section(section, until)
            except Exception as error:
                print(f"{section.name}: {told(error)}", flush=True)
                self.results["checks"].append({"name": section.name, "failed": told(error)})
            self.write()
        failed = [one for one in self.results["checks"] if one.get("failed")]
        print(f"{len(self.results['checks'])} checks, {len(failed)} failed", flush=True)
        for one in failed:
            print(f"  {one['name']}: {one['failed']}", flush=True)
        return 1 if failed else 0

    def operators(self) -> None:
        """Makes torch know our operators; its C++ is compiled while kernels are checked."""
        import torch

        from benchmarks.gpu_timing import told
        from tautomer.codegen.torch.operators import operator_of
        from tautomer.runtime.torch.ops_library import attach_cuda

        try:
            reason = attach_cuda(operator_of("softmax"), torch.empty(1, 64, device=self.place.device))
        except Exception as error:
            reason = told(error)
        print(f"operators of torch: {reason or 'there'}, {time.monotonic() - self.begun:.0f} s", flush=True)

    def section(self, section: Section, until: float) -> None:
        """Runs one section until its time is over."""
        print(f"\n{section.name} ({until - time.monotonic():.0f} s)", flush=True)
        module = import_module(f"benchmarks.{section.module}")
        work: list[Check | Case] = getattr(module, section.function)(self.place)
        before = time.monotonic()
        if not self.place.rehearsal and section.threads > 1:
            self.compile_ahead(work, section.threads, until)
        for done, one in enumerate(work):
            if time.monotonic() > until and not self.place.rehearsal:
                print(f"no time for {len(work) - done} of {len(work)}", flush=True)
                self.results["cases"].append({"section": section.name, "left out": len(work) - done})
                break
            if isinstance(one, Check):
                self.check(one)
            else:
                self.case(section, one, until)
            self.write()
        print(f"{section.name}: {time.monotonic() - before:.0f} s", flush=True)

    def compile_ahead(self, work: list[Check | Case], threads: int, until: float) -> None:
        """Runs the checks once by threads, for what they compile; what they find is looked at afterwards."""
        pool = ThreadPoolExecutor(threads)
        waiting = [pool.submit(one.error) for one in work if isinstance(one, Check)]
        wait(waiting, timeout=0.7 * max(0.0, until - time.monotonic()))
        pool.shutdown(wait=True, cancel_futures=True)

    def check(self, check: Check) -> None:
        """Runs one check, with outputs that are NaN before they are written."""
        import torch

        from benchmarks.gpu_timing import told

        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            error = check.error()
            failed = "" if error <= check.limit else f"off by {error:.2e}, at most {check.limit:.1e}"
        except Exception as caught:
            error, failed = float("nan"), told(caught)
        finally:
            torch.use_deterministic_algorithms(False)
        row = {"name": check.name, "error": error, "limit": check.limit, "failed": failed}
        self.results["checks"].append(row)
        if failed:
            print(f"FAILED {check.name}: {failed}", flush=True)

    def case(self, section: Section, case: Case, until: float) -> None:
        """Times one case and prints a line."""
        import torch

        from benchmarks.gpu_timing import seconds

        times = seconds(case, self.place, most=max(0.5, min(3.0, until - time.monotonic())))
        numbers = {name: one for name, one in times.items() if isinstance(one, float)}
        row = {"section": section.name, "name": case.name, "size": case.size, "bar": case.bar, "times": times}
        first = OURS if OURS in times else min(numbers, key=numbers.__getitem__, default="")
        cells = []
        if first in numbers:
            row |= self.fractions(case, numbers[first])
            cells.append(f"{first} {1e6 * numbers[first]:.1f} us")
            cells += [f"{100 * row[name]:.1f} % of {name}" for name in ("copy", "matrix") if name in row]
            row["ratios"] = {name: numbers[name] / numbers[first] for name in numbers if name != first}
            cells += [f"{name} {ratio:.3f}" for name, ratio in row["ratios"].items()]
        cells += [f"{name}: {one}" for name, one in times.items() if isinstance(one, str)]
        self.results["cases"].append(row)
        print(f"{case.name:<22} {case.size:<16} {', '.join(cells)}", flush=True)
        if not self.place.rehearsal:
            torch.cuda.empty_cache()

    def fractions(self, case: Case, time_of_ours: float) -> dict[str, float]:
        """Of what the device reaches."""
        needed = {"copy": float(case.bytes), "matrix": case.flops}
        return {
            name: needed[name] / time_of_ours / top for name, top in self.ceilings.items() if needed.get(name)
        }

    def write(self) -> None:
        """Everything so far."""
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            self.results["seconds"] = time.monotonic() - self.begun
            aside = self.out / "gpu.json.new"  # whoever ends this process finds a whole file
            aside.write_text(json.dumps(self.results, indent=1) + "\n")
            aside.replace(self.out / "gpu.json")


if __name__ == "__main__":
    sys.exit(main())
