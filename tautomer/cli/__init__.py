"""The command line: one file per verb, every exit code decided here.

Nothing heavy is imported before a verb runs, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import textwrap
import traceback
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from tautomer._version import __version__
from tautomer.cli import bench, cache, doctor, explain, inspect, kernels, optimize, tune, verify
from tautomer.cli.lazy_sympy import put_off_sympy
from tautomer.cli.output import Console
from tautomer.cli.own_operations import define
from tautomer.errors import TautomerError
from tautomer.model_changes import model_change

VERBS = (inspect, explain, optimize, verify, bench, kernels, tune, doctor, cache)

_EXIT_CODES = """\
exit codes: 0 done and verified, 1 a check failed, 2 usage or bad input, 3 a tool or library is missing,
4 disk, memory or permission, 5 a bug of Tautomer, 130 and 143 interrupted. --json puts one JSON document on
stdout; progress and messages go to stderr."""


class _Terminated(BaseException):
    """SIGTERM arrived: unwinding the stack removes half-written files."""


class _Parser(argparse.ArgumentParser):
    """argparse with one line per error, as for every other error."""

    def error(self, message: str) -> NoReturn:
        """Reports wrong usage; what asks for another model gets the reason why that is refused."""
        message = model_change(message) or message
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def run_as_program() -> int:
    """What the `tautomer` command calls: this process is ours alone."""
    put_off_sympy()
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show
    parser = _parser()
    try:
        options, unknown = parser.parse_known_args(arguments)
        if unknown:
            options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    except SystemExit as leaving:  # argparse has said what there is to say
        return _flushed(int(leaving.code or 0))
    console = Console(getattr(options, "verbosity", 0))
    if options.run is None:
        console.note(parser.format_help())
        return 2
    if not console.debugging:
        # the libraries' warnings are for programmers; what a user must know arrives as an error or a remark
        logging.getLogger("onnx_ir").setLevel(logging.CRITICAL)
        warnings.simplefilter("ignore")
    previous = signal.getsignal(signal.SIGTERM)
    _on_sigterm(_terminate)
    # remarks about this machine, such as a cache folder that cannot be used
    log = logging.getLogger("tautomer")
    level = log.level
    if console.quiet:
        log.setLevel(logging.ERROR)
    try:
        return _flushed(_run(options, console))
    finally:
        log.setLevel(level)
        _on_sigterm(previous)


def _run(options: argparse.Namespace, console: Console) -> int:
    """The verb, with every way in which it can end."""
    try:
        define(getattr(options, "operations", ()))
        code: int = options.run(options, console)
    except TautomerError as error:
        console.error(str(error))
        console.traceback(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.error("interrupted")
        return 130
    except _Terminated:
        console.error("terminated")
        return 143
    except BrokenPipeError:  # `tautomer inspect model.onnx | head`
        return 0
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "tautomer":
            return _bug(error, console)
        console.error(f"the library {missing} is not installed; `tautomer doctor` says how to get it")
        console.traceback(error)
        return 3
    except MemoryError as error:
        console.error("not enough memory; free some and run again")
        console.traceback(error)
        return 4
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        console.error(f"{place}{error.strerror or error}; check that the place exists and is writable")
        console.traceback(error)
        return 4
    except Exception as error:  # whatever it is, the user gets a sentence
        return _bug(error, console)
    return code


def _bug(error: Exception, console: Console) -> int:
    """One line, and how to report it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.filename.rpartition(os.sep)[2]}:{frame.lineno}"
    console.error(
        f"a bug in Tautomer {__version__}: {type(error).__name__}: {error} ({place}); "
        "run again with -v and report what it prints, with the model if you can share it"
    )
    console.traceback(error)
    return 5


def _flushed(code: int) -> int:
    """Writes out what waits, here where a closed pipe can still be met quietly."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # the interpreter flushes once more on its way out and would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _on_sigterm(handler: signal._HANDLER) -> None:
    try:
        signal.signal(signal.SIGTERM, handler)
    except (ValueError, TypeError):
        return  # not the main thread, or a handler that is not Python's: whoever called us decides


def _parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    everywhere = _Parser(add_help=False)
    everywhere.add_argument(
        "-v",
        "--verbose",
        dest="verbosity",
        action="store_const",
        const=1,
        default=argparse.SUPPRESS,
        help="say more, and show tracebacks",
    )
    everywhere.add_argument(
        "-q",
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=-1,
        default=argparse.SUPPRESS,
        help="say nothing but results and errors",
    )
    parser = _Parser(
        prog="tautomer",
        parents=[everywhere],
        description="Turns a model graph into another form of the same function that runs faster.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tautomer {__version__}")
    parser.set_defaults(run=None, parser=parser)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", parser_class=_Parser)
    for verb in VERBS:
        name = verb.__name__.rpartition(".")[2]
        examples = "\n".join(("examples:", *(f"  tautomer {example}" for example in verb.EXAMPLES)))
        one = verbs.add_parser(
            name,
            parents=[everywhere],
            help=verb.HELP,
            description="\n\n".join(textwrap.fill(text, 78) for text in (verb.__doc__ or "").split("\n\n")),
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_arguments(one)
        one.set_defaults(run=verb.run, parser=one)
    return parser
