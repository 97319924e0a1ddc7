"""What the command line prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}


class Console:
    """The two streams and what may be printed on them.

    Attributes:
        verbose: details are wanted.
        quiet: only results and errors are wanted.
        debugging: tracebacks are wanted.
    """

    def __init__(self, verbosity: int) -> None:
        """Args: verbosity: -1 for -q, 1 for -v."""
        self.quiet, self.verbose = verbosity < 0, verbosity > 0
        self.debugging = self.verbose or os.environ.get("TAUTOMER_DEBUG") == "1"
        self._colour = _may_colour(sys.stdout)
        self._transient = not self.quiet and not self.verbose and _is_terminal(sys.stderr)
        self._line_shown = False

    def json(self, document: dict[str, Any]) -> None:
        """Prints one JSON document: ASCII, so that it arrives whole in any locale."""
        sys.stdout.write(json.dumps({"schema_version": 1, **document}, indent=2) + "\n")

    def result(self, line: str = "") -> None:
        """Prints a line of the result."""
        self._clear()
        sys.stdout.write(line + "\n")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str | int]]) -> None:
        """Prints aligned columns, numbers to the right."""
        shown: list[Sequence[str | int]] = [head, *rows]
        cells = [[one_line(str(cell)) for cell in row] for row in shown]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for index, (row, source) in enumerate(zip(cells, shown, strict=True)):
            # a heading stands as its column does
            kinds = source if index else (shown[1] if len(shown) > 1 else source)
            columns = [
                text.rjust(width) if isinstance(kind, int) else text.ljust(width)
                for text, width, kind in zip(row, widths, kinds, strict=True)
            ]
            line = "  ".join(columns).rstrip()
            self.result(self.paint(line, "bold") if index == 0 else line)

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour, where stdout shows colours."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._colour else text

    def progress(self, stage: str) -> None:
        """Shows what is being done: one line that is replaced, on a terminal; a log line with -v."""
        if self.verbose:
            self.note(one_line(stage))
        elif self._transient:
            sys.stderr.write(f"\r\x1b[K{one_line(stage)} ...")
            sys.stderr.flush()
            self._line_shown = True

    def note(self, text: str) -> None:
        """Says something on stderr, unless -q."""
        if not self.quiet:
            self._clear()
            sys.stderr.write(text.rstrip("\n") + "\n")

    def error(self, text: str) -> None:
        """Says on one line of stderr what went wrong."""
        self._clear()
        sys.stderr.write(f"tautomer: {one_line(text)}\n")

    def traceback(self, error: BaseException) -> None:
        """Shows where an error comes from, to those who asked for it."""
        if self.debugging:
            traceback.print_exception(error)

    def _clear(self) -> None:
        if self._line_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._line_shown = False


def one_line(text: str) -> str:
    """The text without anything that a terminal or a log would act upon: names come from untrusted files."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def size(count: int) -> str:
    """A number of bytes for people."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _may_colour(stream: TextIO) -> bool:
    return _is_terminal(stream) and not os.environ.get("NO_COLOR")
