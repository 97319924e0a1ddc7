"""The system's C++ compiler: finding it, and making a shared library of generated text."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tautomer.errors import CheckFailedError, MissingToolError
from tautomer.runtime.child_process import Ended, check_space, plain, run_alone

NAMES = ("c++", "g++", "clang++")
FLAGS = (
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
)
_REMEDY = "install g++ or clang++, or name one in CXX; without one, models still run on stock operators"


@dataclass(frozen=True)
class Compiler:
    """A compiler that answers.

    Attributes:
        command: its path, and what CXX wants behind it.
        version: all that it says about itself; with the arguments, what makes its output differ.
    """

    command: tuple[str, ...]
    version: str

    @property
    def fingerprint(self) -> str:
        """What two compilers that make the same library have in common."""
        return "\n".join((*self.command[1:], self.version))


def find() -> Compiler:
    """The first of $CXX, c++, g++ and clang++ that answers; asked once per process and environment.

    Raises:
        MissingToolError: none does.
    """
    return _find(os.environ.get("CXX", ""), os.environ.get("PATH", ""))


@lru_cache(maxsize=8)  # answers only: a compiler that is missing may be installed while we run
def _find(named: str, path: str) -> Compiler:
    try:
        wanted = shlex.split(named)  # CXX may hold arguments: "ccache g++ -m64"
    except ValueError:  # a quote that is not closed
        wanted = []
    for command in (wanted, *([name] for name in NAMES)):
        program = shutil.which(command[0], path=path) if command else None
        if program is None:
            continue
        # absolute: the compiler runs in the folder of its output
        complete = (str(Path(program).absolute()), *command[1:])
        try:
            answer = subprocess.run(
                [*complete, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**os.environ, "LC_ALL": "C"},
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return Compiler(complete, answer.stdout[:4000].decode(errors="replace").strip())
    raise MissingToolError("no C++ compiler was found", where="native kernels", remedy=_REMEDY)


def compile(text: str, flags: Sequence[str], out: Path, timeout: float = 60.0) -> None:
    """Makes a shared library of C++ text.

    The text goes to a file beside the library, of the same name with the ending .cpp. Everything else that
    the compiler writes goes to a folder there, which is gone afterwards. Only we may write what results.

    Args:
        text: the source.
        flags: flags besides FLAGS.
        out: the library.
        timeout: seconds after which the compiler is stopped.

    Raises:
        MissingToolError: there is no compiler.
        CheckFailedError: the compiler refuses the text, fails, or takes too long.
        OSError: the folder is full or not writable.
    """
    compiler = find()
    source = out.with_suffix(".cpp")
    with os.fdopen(os.open(source, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text.encode())
    # names without folders: the same text must give the same library wherever it is made
    command = [*compiler.command, *FLAGS, *flags, "-o", out.name, source.name]
    # what a compiler that was killed leaves may not be removable at once; the folder above goes anyway
    with tempfile.TemporaryDirectory(
        prefix="compiling-", dir=out.parent, ignore_cleanup_errors=True
    ) as scratch:
        environment = {"LC_ALL": "C", "TMPDIR": scratch}
        try:
            ended = run_alone(command, folder=out.parent, timeout=timeout, environment=environment)
        except (FileNotFoundError, PermissionError) as error:
            if error.filename != command[0]:
                raise
            raise MissingToolError(
                f"the compiler cannot be started any more ({error.strerror})",
                where=command[0],
                remedy=_REMEDY,
            ) from error
    _check(ended, command[0], out, timeout)
    out.chmod(0o700)


def _check(ended: Ended, compiler: str, out: Path, timeout: float) -> None:
    """Raises unless the compiler did its work."""
    remedy = "name another compiler in CXX; until then, stock operators are used"
    if ended.code is None:
        what = f"the compiler took longer than {timeout:g} s for a kernel and was stopped"
    elif ended.code:
        check_space(out.parent, ended.errors)
        how = f"was ended by {ended.signal}" if ended.signal else f"failed with exit code {ended.code}"
        what = f"the compiler {how} on a kernel: {_shortened(ended.errors)}"
    elif out.is_symlink() or not out.is_file() or not out.stat().st_size:
        what = "the compiler says that it succeeded, and wrote no library"
    else:
        return
    raise CheckFailedError(what, where=compiler, remedy=remedy)


def _shortened(errors: str) -> str:
    """The line that says most: the first with an error, else the first."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines or ["it said nothing"]
    return plain(telling[0], 300)
