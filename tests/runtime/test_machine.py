"""The description of a machine: from samples of /proc and /sys, from wrong files, and measured."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tautomer.cli import main
from tautomer.codegen import isa
from tautomer.errors import InputError
from tautomer.machine import DESCRIBED, ISA_NEEDS, MIB, Machine, isas_of
from tautomer.runtime import doctor, machine_speed
from tautomer.runtime.machine import has_pairs, machine_of, this_machine
from tautomer.runtime.machine_speed import measured, recalled
from tautomer.runtime.machine_threads import threads_of

AVX2 = "fpu sse2 sse4_2 avx f16c fma avx2"
AVX512 = f"{AVX2} avx512f avx512bw avx512dq avx512vl avx512_bf16"
CACHES = (
    ("1", "Data", "32K"),
    ("1", "Instruction", "64K"),
    ("2", "Unified", "1024K"),
    ("3", "Unified", "32768K"),
)
CPU = "sys/devices/system/cpu"
Tree = Callable[..., Path]


def cpuinfo(
    flags: str = AVX2, model: str = "Sample 9000", microcode: str = "0x1", mhz: str = "2000.1"
) -> str:
    one = (
        f"vendor_id\t: Sample\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: {model}\nstepping\t: 1\n"
        f"microcode\t: {microcode}\ncpu MHz\t\t: {mhz}\nflags\t\t: {flags}\npower management:\n\n"
    )
    return f"processor\t: 0\n{one}processor\t: 1\n{one}"


ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes sha2 asimdhp asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd0c

"""


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system lets us run on 64 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes a root with /proc and /sys; `files` replaces a file's text, or removes it with None."""

    def make(
        files: dict[str, str | None] | None = None, caches: tuple[tuple[str, str, str], ...] = CACHES
    ) -> Path:
        texts: dict[str, str | None] = {"proc/cpuinfo": cpuinfo(), f"{CPU}/online": "0-7\n"}
        for index, values in enumerate(caches):
            for name, value in zip(("level", "type", "size"), values, strict=True):
                texts[f"{CPU}/cpu0/cache/index{index}/{name}"] = f"{value}\n"
        for name, text in (texts | (files or {})).items():
            if text is not None:
                (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "root" / name).write_text(text)
        return tmp_path / "root"

    return make


def test_a_machine_whose_files_are_all_there(tree: Tree) -> None:
    found = this_machine(tree())
    assert (found.name, found.isas, found.assumed) == ("Sample 9000", ("avx2", "portable"), ())
    assert (found.cores, found.threads) == (8, 8)
    assert (found.l1, found.l2, found.l3) == (32 << 10, 1 << 20, 32 << 20)
    assert (found.bandwidth, found.peak_flops) == (None, None)


def test_this_very_machine() -> None:
    found = this_machine()
    assert 1 <= found.threads <= found.cores
    assert found.isas[-1] == "portable"
    assert found.l1 <= found.l2 <= found.l3
    assert found == this_machine() == machine_of("native") == machine_of(found)


@pytest.mark.parametrize(
    ("features", "isas"),
    [
        (AVX512, ("avx512", "avx2", "portable")),
        (AVX2, ("avx2", "portable")),
        (AVX2.replace(" fma", ""), ("portable",)),
        (AVX512.replace(" avx512vl", ""), ("avx2", "portable")),
        ("", ("portable",)),
    ],
)
def test_instruction_sets(features: str, isas: tuple[str, ...]) -> None:
    assert isas_of(features.split()) == isas


def test_instruction_sets_are_those_of_the_kernels() -> None:
    assert list(ISA_NEEDS) == [one.name for one in (isa.AVX512, isa.AVX2, isa.PORTABLE)]


def test_a_processor_of_arm_has_numbers_for_a_name(tree: Tree) -> None:
    found = this_machine(tree({"proc/cpuinfo": ARM}))
    assert found.name.endswith("0x41/0xd0c")
    assert found.isas == ("portable",)


V1 = "sys/fs/cgroup/cpu"
GROUPS_V1 = "4:memory:/a\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"


def test_products_of_pairs_are_a_feature_of_their_own(tree: Tree) -> None:
    assert has_pairs(tree({"proc/cpuinfo": cpuinfo(AVX512)}))
    assert not has_pairs(tree({"proc/cpuinfo": cpuinfo(AVX2)}))
    assert not has_pairs(tree({"proc/cpuinfo": None}))


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        # version 2: our own group, one above, without a limit, from inside a container
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "400000 100000\n"}, 4),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ({"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/out/side\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({"sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        # the smaller of two
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "600000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            },
            2,
        ),
        # version 1: at the root of the container, in our own group, without a limit, mounted under both names
        (
            {
                "proc/self/cgroup": GROUPS_V1,
                f"{V1}/cpu.cfs_quota_us": "250000\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": GROUPS_V1,
                f"{V1}/docker/abc/cpu.cfs_quota_us": "100000\n",
                f"{V1}/docker/abc/cpu.cfs_period_us": "50000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": GROUPS_V1,
                f"{V1}/cpu.cfs_quota_us": "-1\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        (
            {
                "proc/self/cgroup": GROUPS_V1,
                f"{V1},cpuacct/cpu.cfs_quota_us": "300000\n",
                f"{V1},cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        # both at once: version 2 beside version 1, without a controller
        (
            {
                "proc/self/cgroup": "1:cpu:/\n0::/\n",
                f"{V1}/cpu.cfs_quota_us": "200000\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/unified/cgroup.procs": "1\n",
            },
            2,
        ),
        # no numbers
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 0\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "0 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "many few\n"}, None),
        ({"proc/self/cgroup": "nonsense\n::\n\n:cpu\n", "sys/fs/cgroup/cpu.max": ""}, None),
        ({"proc/self/cgroup": "0::/a\0b\n"}, None),
    ],
)
def test_quotas(tree: Tree, files: dict[str, str | None], quota: float | None) -> None:
    found = threads_of(tree(files))
    assert found.quota == quota
    assert found.usable == (math.ceil(quota) if quota else 8)
    assert ("quota" in found.reason) is (quota is not None)


def test_a_quota_above_the_processors_limits_nothing(tree: Tree) -> None:
    found = threads_of(tree({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "6400000 100000\n"}))
    assert (found.usable, found.reason) == (8, "")


def test_affinity_of_one(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    found = threads_of(tree({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}))
    assert (found.cores, found.usable) == (8, 1)
    assert "may run on 1 only" in found.reason


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_affinity_of_one_in_earnest() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from tautomer.runtime.machine import this_machine; print(this_machine().threads)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_a_system_without_any_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    found = this_machine(tmp_path / "nothing")
    assert (found.cores, found.threads, found.isas) == (3, 3, ("portable",))
    assert found.assumed == ("l1", "l2", "l3")
    assert 0 < found.l1 <= found.l2 <= found.l3
    assert found.name
    assert found.fingerprint
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert this_machine(tmp_path / "nothing").threads == 1


def test_files_that_are_folders(tree: Tree) -> None:
    names = ("proc/cpuinfo", "proc/self/cgroup", f"{CPU}/online", f"{CPU}/cpu0/cache/index0/size")
    found = this_machine(tree({f"{name}/inside": "" for name in names} | dict.fromkeys(names), caches=()))
    assert found.isas == ("portable",)
    assert found.assumed == ("l1", "l2", "l3")


@pytest.mark.parametrize(
    "online", ["", "x", "7-0", "0-", "-1", "0-99999999", "0-9999999999999", "\0\n", "0,,1"]
)
def test_wrong_numbers_of_processors(tree: Tree, monkeypatch: pytest.MonkeyPatch, online: str) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert this_machine(tree({f"{CPU}/online": online})).cores == 2


def test_processors_with_gaps(tree: Tree) -> None:
    assert this_machine(tree({f"{CPU}/online": "0,2-4,8\n"})).cores == 5


@pytest.mark.parametrize("size", ["", "0K", "-1K", "32Q", "K", "3", "999999999999K", "32 K"])
def test_wrong_sizes_of_caches(tree: Tree, size: str) -> None:
    found = this_machine(tree(caches=(("1", "Data", size), ("2", "Unified", "2M"), ("x", "Unified", "1M"))))
    assert (found.l1, found.assumed) == (DESCRIBED["x86-64"].l1, ("l1",))
    assert found.l2 == found.l3 == 2 * MIB  # the second cache is the last one


def test_the_fingerprint_is_the_processor(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(**changes: str) -> str:
        return this_machine(tree({"proc/cpuinfo": cpuinfo(**changes)})).fingerprint

    same = fingerprint()
    assert fingerprint(microcode="0x2", mhz="3000.0") == same
    assert fingerprint(flags=" ".join(reversed(AVX2.split()))) == same
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
    assert fingerprint() == same
    assert len({same, fingerprint(flags=AVX512), fingerprint(model="Sample 9001")}) == 3
    assert this_machine(tree({f"{CPU}/online": "0-3"})).fingerprint != same


def test_machines_that_are_described() -> None:
    assert machine_of("x86-64-v4").isas[0] == "avx512"
    assert machine_of("x86-64-v3").isas[0] == "avx2"
    assert machine_of("aarch64").isas == ("portable",)
    for name, one in DESCRIBED.items():
        assert one.name == name
        assert one.l1 < one.l2 < one.l3
        assert measured(one) == one
    with pytest.raises(InputError, match=r"unknown machine 'x86'; choose one of native, x86-64, .*aarch64"):
        machine_of("x86")


# measuring


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures little, and badly."""
    monkeypatch.setattr(machine_speed, "_SECONDS", 0.005)
    monkeypatch.setattr(machine_speed, "_size", lambda machine: 4 * MIB)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program is found."""
    monkeypatch.setenv("PATH", "/nothing")
    monkeypatch.delenv("CXX", raising=False)


@pytest.fixture
def stored(cache: Path) -> Path:
    """Where this machine's numbers are kept."""
    return cache.with_name("machines") / f"{this_machine().fingerprint}.json"


def test_measured_once_and_read_at_once(real_compiler: None, quick: None, stored: Path) -> None:
    machine = this_machine()
    assert recalled(machine) == machine
    found = measured(machine)
    assert found.bandwidth is not None
    assert found.bandwidth.read is not None
    assert found.bandwidth.read > 1e8
    assert found.bandwidth.copy is not None
    assert found.peak_flops is not None
    assert found.peak_flops > 1e8
    assert [path.name for path in stored.parent.iterdir()] == [stored.name]
    assert stored.stat().st_mode & 0o777 == 0o600
    times = []
    for _ in range(5):
        before = time.process_time()
        assert measured(machine) == found
        times.append(time.process_time() - before)
    assert min(times) < 0.005
    assert dataclasses.replace(recalled(machine), bandwidth=None, peak_flops=None) == machine
    assert measured(machine, again=True) != found


@pytest.mark.parametrize("isa_name", ["portable", "avx2"])
def test_arithmetic_is_held_in_registers(
    real_compiler: None, quick: None, cache: Path, isa_name: str
) -> None:
    machine = this_machine()
    if isa_name not in machine.isas:
        pytest.skip("not on this machine")
    found = measured(dataclasses.replace(machine, isas=(isa_name,)))
    # a vector of four at less than once per nanosecond would be a trip through memory in every step
    assert found.peak_flops is not None
    assert found.peak_flops > (4e9 if isa_name == "portable" else 12e9)


def test_without_a_compiler_numpy_copies(quick: None, no_compiler: None, stored: Path) -> None:
    found = measured(this_machine())
    assert found.bandwidth is not None
    assert found.bandwidth.copy is not None
    assert (found.bandwidth.read, found.bandwidth.stream, found.peak_flops) == (None, None, None)
    assert measured(this_machine()) == found


def test_the_rest_is_measured_when_there_is_a_compiler(
    real_compiler: None, quick: None, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setenv("PATH", "/nothing")
        without.delenv("CXX", raising=False)
        assert measured(this_machine()).peak_flops is None
    complete = measured(this_machine())
    assert complete.peak_flops is not None
    monkeypatch.setenv("PATH", "/nothing")
    monkeypatch.delenv("CXX", raising=False)
    assert measured(this_machine(), again=True) == complete


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        'while [ "$1" != -o ]; do shift; done; echo nothing > "$2"',
        'echo "int x;" > y.cpp; $REAL -shared -fPIC -o kernel.so y.cpp',
    ],
)
def test_a_program_that_does_not_work_costs_nothing(
    quick: None, stored: Path, fake_compiler: Callable[[str], Path], script: str
) -> None:
    fake_compiler(script)
    found = measured(this_machine())
    assert found.bandwidth is not None
    assert found.bandwidth.read is None


GOOD = {"format": 1, "read": 2e10, "copy": 2e10, "stream": None, "peak_flops": 1e11}


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"format": 2}, False),
        ({"fingerprint": "another"}, False),
        ({"copy": "fast"}, False),
        ({"copy": True}, False),
        ({"copy": -1}, False),
        ({"copy": 1e300}, False),
        ({"copy": float("nan")}, False),
        ({"copy": float("inf")}, False),
        ({"copy": 10**400}, False),
    ],
)
def test_only_numbers_that_can_be_true_are_believed(
    stored: Path, change: dict[str, object], kept: bool
) -> None:
    stored.parent.mkdir(parents=True)
    stored.write_text(json.dumps({**GOOD, "fingerprint": this_machine().fingerprint, **change}))
    assert (recalled(this_machine()).bandwidth is not None) is kept


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "\0", "[" * 60000, '{"format": 1}'])
def test_damaged_files_are_not_there(stored: Path, text: str) -> None:
    stored.parent.mkdir(parents=True)
    stored.write_text(text)
    assert recalled(this_machine()) == this_machine()


def test_links_and_pipes_are_not_read(stored: Path, tmp_path: Path) -> None:
    stored.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").write_text(json.dumps({**GOOD, "fingerprint": this_machine().fingerprint}))
    stored.symlink_to(tmp_path / "elsewhere")
    assert recalled(this_machine()) == this_machine()
    stored.unlink()
    os.mkfifo(stored)
    assert recalled(this_machine()) == this_machine()


def test_a_cache_that_cannot_be_written(
    quick: None,
    no_compiler: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAUTOMER_CACHE", str(tmp_path / "file" / "below"))
    assert measured(this_machine()).bandwidth is not None
    assert "is not kept" in caplog.text


# the verb


def findings(machine: Machine | None = None) -> dict[str, doctor.Finding]:
    return {one.name: one for one in doctor.examine(machine)}


def test_doctor_tells_it(cache: Path, no_compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told = findings()
    assert told["caches"].detail.startswith("L1 ")
    assert told["kernels for"].detail.endswith("portable")
    assert (told["speed"].status, told["speed"].remedy) == (
        "missing",
        "tautomer doctor --measure (takes two seconds)",
    )
    assert told["compiler"].status == "missing"
    assert "install g++" in told["compiler"].remedy or "xcode" in told["compiler"].remedy
    assumed = dataclasses.replace(machine_of("x86-64"), assumed=("l3",))
    assert findings(assumed)["caches"].detail == "L1 32 KiB, L2 256 KiB, L3 4 MiB (assumed)"


def test_doctor_measures(
    real_compiler: None, quick: None, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--measure", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["machine"]["bandwidth"]["read"] > 0
    assert document["machine"]["isas"][-1] == "portable"
    assert main(["doctor"]) == 0
    assert "one thread: read " in capsys.readouterr().out


def test_doctor_is_fast(cache: Path) -> None:
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "tautomer", "doctor"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # processor time: other tests run beside this one, and their share is not ours
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(times) < 0.3
