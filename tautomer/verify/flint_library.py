"""python-flint, imported when it is first computed with: what needs no ball arithmetic works without it."""

from __future__ import annotations

from typing import Any

from tautomer.errors import MissingToolError


class _Flint:
    """The names of the module `flint`, each looked up once.

    Raises:
        MissingToolError: it is not installed.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            import flint as library
        except ImportError as error:
            raise MissingToolError(
                f"ball arithmetic needs python-flint ({error})", remedy="pip install python-flint"
            ) from error
        found = getattr(library, name)
        setattr(self, name, found)
        return found


flint = _Flint()
