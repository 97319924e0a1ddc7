"""Operations that the user has defined in a file of Python: `--operations FILE`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from tautomer.errors import InputError, TautomerError


def define(files: Sequence[Path]) -> None:
    """Runs the files; running one registers what it defines.

    Args:
        files: of Python, with functions under `@tautomer.operation(...)`. They are programs of the user,
            not data: what they do when they are imported, they do here.

    Raises:
        InputError: a file cannot be read, or is no Python that runs.
    """
    for number, path in enumerate(files):
        spec = importlib.util.spec_from_file_location(f"tautomer_operations_{number}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise InputError(
                "no file of Python with operations", where=str(path), remedy="give the path of a .py file"
            )
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except TautomerError:
            raise
        except Exception as error:
            raise InputError(
                f"it does not run: {type(error).__name__}: {error}",
                where=str(path),
                remedy="run it with python to see where",
            ) from error
