"""The cache: built once, believed only when it is ours and whole, and never in the way of the program."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doubling import TEXT, is_double, kernel_text, report, trial

from tautomer.cli import main
from tautomer.errors import CheckFailedError, ResourceError
from tautomer.runtime import cache_folder, compiler, kernel_cache
from tautomer.runtime.first_run import first_run
from tautomer.runtime.kernel_cache import RejectedKernelError, library
from tautomer.runtime.loaded import call_rows, load

pytestmark = pytest.mark.usefixtures("real_compiler")


def checked(path: Path) -> str | None:
    one = trial()
    return first_run(path, one, is_double(one))


def works(path: Path) -> bool:
    one, out = trial(), np.zeros((5, 7), np.float32)
    call_rows(load(path, "doubled"), one.inputs, [out], [2.0], 5, 7)
    return is_double(one)([out]) is None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every library that is compiled."""
    made: list[Path] = []
    real = compiler.compile

    def counting(text: str, flags: list[str], out: Path, timeout: float = 60.0) -> None:
        made.append(out)
        real(text, flags, out, timeout)

    monkeypatch.setattr(compiler, "compile", counting)
    return made


def test_built_once(cache, compiled):
    path = library(TEXT, check=checked)
    assert path.parent.parent == cache
    assert works(path)
    before = time.process_time()
    assert library(TEXT, check=checked) == library(TEXT) == path
    assert time.process_time() - before < 0.04
    assert len(compiled) == 1
    assert names(path.parent) == ["kernel.cpp", "kernel.so", "manifest.json"]
    assert [one.stat().st_mode & 0o077 for one in (cache, *path.parent.iterdir())] == [0, 0, 0, 0]


def test_a_manifest_says_what_there_is_and_is_the_same_every_time(cache, tmp_path, monkeypatch):
    first = (library(TEXT, ["-DX=1"], check=checked).parent / "manifest.json").read_bytes()
    monkeypatch.setenv("TAUTOMER_CACHE", str(tmp_path / "other"))
    assert (library(TEXT, ["-DX=1"], check=checked).parent / "manifest.json").read_bytes() == first
    manifest = json.loads(first)
    assert manifest["flags"] == [*compiler.FLAGS, "-DX=1"]
    assert manifest["compiler"] == compiler.find().fingerprint
    assert set(manifest["files"]) == {"kernel.cpp", "kernel.so"}


def test_everything_that_decides_has_an_entry_of_its_own(cache, compiled, fake_compiler, monkeypatch):
    paths = {library(TEXT), library(TEXT + "\n"), library(TEXT, ["-O1"])}
    monkeypatch.setattr("tautomer.runtime.kernel_recipe.processor", lambda: "another")
    paths.add(library(TEXT))
    fake_compiler('exec "$REAL" "$@"')
    paths.add(library(TEXT))
    assert len(paths) == len(compiled) == 5


def test_another_process_loads_it_at_once(cache, job):
    first = report(subprocess.run(job, capture_output=True, text=True, check=False))
    later = [report(subprocess.run(job, capture_output=True, text=True, check=False)) for _ in range(3)]
    assert {one["path"] for one in later} == {first["path"]}
    assert not any(one["reason"] for one in (first, *later))
    assert min(one["seconds"] for one in later) < 0.020


@pytest.mark.parametrize("count", [2, 8])
def test_processes_that_build_the_same_at_once(cache, job, count):
    running = [
        subprocess.Popen(job, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(count)
    ]
    done = [(one.communicate(), one.returncode) for one in running]
    reports = [report(subprocess.CompletedProcess(job, code, out, errors)) for (out, errors), code in done]
    assert {one["reason"] for one in reports} == {None}
    assert [errors for (_, errors), _ in done] == [""] * count
    assert len({one["path"] for one in reports}) == len(names(cache)) == 1


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An entry that is in order, to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAUTOMER_CACHE", str(tmp_path_factory.mktemp("ready")))
        return library(TEXT, check=checked).parent


def copied(entry: Path, cache: Path) -> Path:
    for folder in (cache.parent, cache):
        folder.mkdir(mode=0o700)
    return Path(shutil.copytree(entry, cache / entry.name))


def test_processes_that_meet_a_wrong_entry_at_once(cache, job, ready):
    (copied(ready, cache) / "kernel.so").write_bytes(b"rubbish")
    running = [subprocess.Popen(job, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    done = [(one.communicate()[0], one.returncode) for one in running]
    reports = [report(subprocess.CompletedProcess(job, code, out, "")) for out, code in done]
    assert {one["reason"] for one in reports} == {None}
    assert {one["path"] for one in reports} == {str(cache / ready.name / "kernel.so")}
    assert names(cache) == [ready.name]


def spoil_text(entry: Path) -> None:
    (entry / "kernel.cpp").write_text("other")


def truncate(entry: Path) -> None:
    content = (entry / "kernel.so").read_bytes()
    (entry / "kernel.so").write_bytes(content[: len(content) // 2])


def empty_manifest(entry: Path) -> None:
    (entry / "manifest.json").write_text("")


def deep_manifest(entry: Path) -> None:
    (entry / "manifest.json").write_text("[" * 100_000)


def poison(entry: Path) -> None:
    """Another library, with sums that hold."""
    other = library(kernel_text(after="out[0] = 7;")).read_bytes()
    (entry / "kernel.so").write_bytes(other)
    manifest = json.loads((entry / "manifest.json").read_text())
    manifest["files"]["kernel.so"] = hashlib.sha256(other).hexdigest()
    manifest["flags"] = ["-fpoison"]
    (entry / "manifest.json").write_text(json.dumps(manifest))


def other_entry(entry: Path) -> None:
    other = library(kernel_text(after="out[0] = 7;")).parent
    kernel_cache.remove(entry)
    other.rename(entry)


def one_file_more(entry: Path) -> None:
    (entry / "more").write_text("")


def remove_library(entry: Path) -> None:
    (entry / "kernel.so").unlink()


def link_library(entry: Path) -> None:
    (entry / "kernel.so").rename(entry.parent.parent / "elsewhere.so")
    (entry / "kernel.so").symlink_to(entry.parent.parent / "elsewhere.so")


def pipe(entry: Path) -> None:
    (entry / "kernel.so").unlink()
    os.mkfifo(entry / "kernel.so")


def link_entry(entry: Path) -> None:
    entry.rename(entry.parent.parent / "elsewhere")
    entry.symlink_to(entry.parent.parent / "elsewhere")


def file_entry(entry: Path) -> None:
    kernel_cache.remove(entry)
    entry.write_text("")


def empty_entry(entry: Path) -> None:
    kernel_cache.remove(entry)
    entry.mkdir(0o700)


def writable_entry(entry: Path) -> None:
    entry.chmod(0o777)


def writable_library(entry: Path) -> None:
    (entry / "kernel.so").chmod(0o620)


SPOILING = [
    *(
        spoil_text,
        truncate,
        empty_manifest,
        deep_manifest,
        poison,
        other_entry,
        one_file_more,
        remove_library,
    ),
    *(link_library, pipe, link_entry, file_entry, empty_entry, writable_entry, writable_library),
]


@pytest.mark.parametrize("spoil", SPOILING, ids=lambda one: one.__name__)
def test_a_wrong_entry_is_built_again(cache, caplog, ready, spoil: Callable[[Path], None]):
    entry = copied(ready, cache)
    assert library(TEXT, check=checked) == entry / "kernel.so"
    assert not caplog.records
    spoil(entry)
    assert library(TEXT, check=checked) == entry / "kernel.so"
    assert works(entry / "kernel.so")
    assert not entry.is_symlink()
    assert names(entry) == ["kernel.cpp", "kernel.so", "manifest.json"]
    assert [one.message.count("is built again") for one in caplog.records] == [1]
    assert not [name for name in names(cache) if name.endswith(".tmp")]
    assert library(TEXT, check=checked) == entry / "kernel.so"
    assert len(caplog.records) == 1


def test_what_a_link_leads_to_is_left_alone(cache, tmp_path):
    entry = library(TEXT).parent
    link_entry(entry)
    library(TEXT)
    assert names(tmp_path / "cache" / "elsewhere") == ["kernel.cpp", "kernel.so", "manifest.json"]


def test_only_the_entry_that_was_judged_is_removed(cache, monkeypatch):
    entry = library(TEXT).parent
    judged = entry.lstat()
    entry.rename(cache / "first")
    new = library(TEXT).parent.lstat().st_ino
    kernel_cache._move_aside(entry, judged)
    assert entry.lstat().st_ino == new
    with monkeypatch.context() as patch:  # another process is faster by a hair
        patch.setattr(kernel_cache, "_same", lambda one, other, answers=[False, True]: answers.pop())
        kernel_cache._move_aside(entry, judged)
    assert entry.lstat().st_ino == new
    kernel_cache._move_aside(entry, entry.lstat())
    assert names(cache) == ["first"]


def test_a_rejected_kernel_is_not_tried_again(cache, compiled, capsys):
    text = kernel_text(before="raise(SIGSEGV);")
    reason = r"the kernel was rejected: it crashes when it runs \(SIGSEGV\)"
    for _ in range(2):
        with pytest.raises(RejectedKernelError, match=reason) as caught:
            library(text, check=checked)
    assert isinstance(caught.value, CheckFailedError)
    assert len(compiled) == 1
    (entry,) = cache.iterdir()
    assert names(entry) == ["kernel.cpp", "manifest.json", "rejected.json"]
    library(TEXT)
    assert main(["cache", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert [one["reason"] for one in document["rejected"]] == ["it crashes when it runs (SIGSEGV)"]
    assert len(document["kernels"]) == 1
    assert document["bytes"] > 1000
    assert main(["cache"]) == 0
    assert "it crashes when it runs (SIGSEGV)" in capsys.readouterr().out
    assert main(["cache", "--clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == 2
    assert names(cache) == []


def test_an_entry_without_a_check_does_not_count_when_there_is_one(cache, compiled, caplog):
    path = library(TEXT)
    assert library(TEXT, check=checked) == library(TEXT) == path
    assert len(compiled) == 2
    assert not caplog.records
    with pytest.raises(RejectedKernelError, match="no good"):
        library(TEXT + "\n", check=lambda built: "no good")


def test_a_compiler_that_makes_rubbish(cache, fake_compiler):
    fake_compiler('while [ "$1" != -o ]; do shift; done; echo rubbish >"$2"')
    with pytest.raises(RejectedKernelError, match="cannot be loaded"):
        library(TEXT, check=checked)


def test_a_compiler_that_fails_leaves_nothing(cache, fake_compiler):
    fake_compiler("exit 1")
    with pytest.raises(CheckFailedError, match="exit code 1"):
        library(TEXT, check=checked)
    assert names(cache) == []


def test_a_check_that_fails_itself_leaves_nothing(cache):
    def broken(path: Path) -> str | None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        library(TEXT, check=broken)
    assert names(cache) == []


def make_writable(cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)


def make_parent_writable(cache: Path) -> None:
    cache.mkdir(parents=True, mode=0o700)
    cache.parent.chmod(0o770)


def make_link(cache: Path) -> None:
    (cache.parent / "elsewhere").mkdir(parents=True)
    cache.symlink_to(cache.parent / "elsewhere")


def make_file(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("")


def make_unmakeable(cache: Path) -> None:
    cache.parent.write_text("")


@pytest.mark.parametrize(
    "make",
    [make_writable, make_parent_writable, make_link, make_file, make_unmakeable],
    ids=lambda one: one.__name__,
)
def test_a_folder_that_cannot_be_used(cache, compiled, caplog, make):
    make(cache)
    path = library(TEXT, check=checked)
    assert cache.parent not in path.parents
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700
    assert works(path)
    assert library(TEXT, check=checked) == path
    assert library(TEXT + "\n", check=checked) != path
    assert len(compiled) == 2
    assert ["for this process only" in one.message for one in caplog.records] == [True]
    assert main(["cache", "-q"]) == 0


def test_a_folder_of_another_user(cache, caplog, monkeypatch):
    path = library(TEXT)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ResourceError, match=r"no folder can hold native kernels: .* belongs to another user"):
        library(TEXT)  # the private one is made by the user that we are not
    monkeypatch.undo()
    assert path.exists()


def test_a_folder_that_others_may_write_is_not_cleared(cache, capsys):
    entry = library(TEXT).parent
    cache.chmod(0o777)
    assert main(["cache", "--clear"]) == 4
    assert "others may write" in capsys.readouterr().err
    assert entry.exists()


def test_a_read_only_folder_is_still_read(mounted, job):
    empty, filled, again = mounted(("ro", job), ("rw", job), ("ro", job))
    assert "mounted" not in str(report(empty)["path"])
    assert "Read-only file system; name a folder that is writable" in empty.stderr
    assert report(again)["path"] == report(filled)["path"]
    assert report(again)["path"] != report(empty)["path"]
    assert filled.stderr == again.stderr == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="no folder is closed to root")
def test_a_folder_without_permission(cache, caplog):
    cache.mkdir(parents=True)
    cache.chmod(0o500)
    assert works(library(TEXT, check=checked))
    assert len(caplog.records) == 1


def test_what_was_built_for_this_process_only_is_found_again(cache, compiled, monkeypatch):
    real = compiler.compile

    def full(text: str, flags: list[str], out: Path, timeout: float = 60.0) -> None:
        if cache in out.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(text, flags, out, timeout)

    monkeypatch.setattr(compiler, "compile", full)
    path = library(TEXT, check=checked)
    assert library(TEXT, check=checked) == path
    assert len(compiled) == 1
    assert works(path)
    assert names(cache) == []
    with pytest.raises(RejectedKernelError):
        library(TEXT + "\n", check=lambda built: "no good")
    with pytest.raises(RejectedKernelError, match="no good"):
        library(TEXT + "\n", check=checked)
    assert len(compiled) == 2


@pytest.mark.parametrize("size", ["4k", "16k", "32k"])
def test_a_full_disk(mounted, job, size):
    (done,) = mounted((f"size={size}", job))
    found = report(done)
    assert found["reason"] is None
    assert "mounted" not in str(found["path"])
    assert "No space left on device" in done.stderr


def test_a_folder_that_nothing_may_be_executed_from(mounted, job, tmp_path):
    (done,) = mounted(("noexec", job))
    assert report(done)["reason"] is None
    assert "mounted noexec" in done.stderr
    neither = ["env", f"TMPDIR={tmp_path}/mounted", *job]
    (done,) = mounted(("noexec", neither))
    assert report(done)["error"] == "ResourceError"
    assert "no folder can hold native kernels" in str(report(done)["text"])


def test_what_killed_processes_left_goes_when_it_is_old(cache):
    entry = library(TEXT).parent
    old, new = (cache / f"{entry.name}.{number}.{'0' * 16}.tmp" for number in (1, 2))
    foreign = cache / "notes.tmp"
    for path in (old, new, foreign):
        path.mkdir()
        (path / "kernel.so").write_text("half")
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    library(TEXT + "\n")
    assert not old.exists()
    assert new.exists()
    assert main(["cache", "--clear"]) == 0
    assert names(cache) == ["notes.tmp"]


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TAUTOMER_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder.location() == tmp_path / ".cache/tautomer/kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder.location() == tmp_path / ".cache/tautomer/kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder.location() == tmp_path / "xdg/tautomer/kernels"
    monkeypatch.setenv("TAUTOMER_CACHE", "~/mine")
    assert cache_folder.location() == tmp_path / "mine/kernels"


def test_an_empty_cache(cache, capsys):
    assert main(["cache", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["bytes"], document["kernels"], document["problem"]) == (0, [], None)
    assert main(["cache", "--clear"]) == 0
    assert not cache.exists()
