"""The same model gives the same graph in every process, so that torch finds its code in its caches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def _seen(cache: Path, seed: str) -> tuple[str, dict[str, int]]:
    script = Path(__file__).with_name("cache_child.py")
    # another order of sets in every process
    env = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return found["text"], found["counters"]


def test_a_second_process_finds_everything_in_the_caches(tmp_path: Path) -> None:
    (text, first), (again, second) = (_seen(tmp_path, seed) for seed in ("1", "2"))
    assert text == again
    assert first["autograd_cache_miss"] == first["fxgraph_cache_miss"] == 1, first
    assert second["autograd_cache_hit"] == second["fxgraph_cache_hit"] == 1, second
    assert not any(count for name, count in second.items() if not name.endswith("hit")), second
