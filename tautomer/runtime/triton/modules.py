"""The function of a kernel's text. Triton reads the source of a function from its file, so there is one.

The files lie in a folder of the cache that only its owner can write. A file is used only if it holds the very
text that was asked for, and what runs is that text, not what is read from the file.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from tautomer.errors import MissingToolError, ResourceError
from tautomer.runtime import cache_folder, own_file
from tautomer.runtime.cache_folder import UnusableFolderError


def load_function(name: str, text: str) -> Any:
    """The function of this name of a module with this text, as `triton.jit` has it.

    Raises:
        MissingToolError: there is no triton.
        ResourceError: no folder can hold its file.
    """
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise MissingToolError(
            "there is no triton", where=name, remedy="pip install triton, or tautomer[triton]"
        ) from error
    module = ModuleType(name)
    module.__file__ = str(_file(name, text))
    exec(compile(text, module.__file__, "exec"), module.__dict__)  # our own text
    return getattr(module, name)


def _file(name: str, text: str) -> Path:
    """The file of a text, written if it is not there."""
    content = text.encode()
    try:
        place = cache_folder.location().with_name("triton") / f"{name}.py"
        try:
            if own_file.read_bytes(place) == content:
                return place
        except OSError:
            pass
        own_file.write_bytes(place, content)
        return place
    except (OSError, UnusableFolderError):
        pass
    try:
        place = cache_folder.make_private_folder() / f"{name}.py"
        place.write_bytes(content)
    except (OSError, UnusableFolderError) as error:
        raise ResourceError(
            f"no folder can hold the text of a kernel: {error}",
            where=name,
            remedy="name a folder that is writable and has space in TAUTOMER_CACHE",
        ) from error
    return place
