"""Every error that Tautomer raises on purpose, as one small tree.

    TautomerError                 exit code
      CheckFailedError            1   the result is not the same function, or a check did not pass
      InputError                  2   bad usage, a bad model, a bad file
        BadModelError             2   the model file is not what it claims to be
      MissingToolError            3   a library or a compiler is not installed
      ResourceError               4   disk, memory, time or permission
      InternalError               5   a bug of ours

A message says what is wrong, where (a node, a value or a file) and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class TautomerError(Exception):
    """The root of the tree.

    Args:
        what: one line that says what is wrong.
        where: the node, value or file that it is about.
        remedy: what the user can do.
    """

    exit_code: ClassVar[int] = 5

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}; {self.remedy}" if self.remedy else head


class CheckFailedError(TautomerError):
    """The evidence says that two graphs differ, or does not suffice."""

    exit_code = 1


class InputError(TautomerError):
    """What the user gave cannot be used as it is."""

    exit_code = 2


class BadModelError(InputError):
    """A model file that is damaged, hostile or outside the ONNX specification."""


class MissingToolError(TautomerError):
    """A library or program that this job needs is not there."""

    exit_code = 3


class ResourceError(TautomerError):
    """Disk, memory, time or permission ran out."""

    exit_code = 4


class InternalError(TautomerError):
    """A bug in Tautomer."""

    exit_code = 5
