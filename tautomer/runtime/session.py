"""Running a model on onnxruntime, as it is written: with the runtime's own optimizations off."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir

from tautomer.errors import CheckFailedError, MissingToolError
from tautomer.graph.writer import write_model


def installed() -> bool:
    """Whether onnxruntime can be imported."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True


class Session:
    """A model loaded by onnxruntime.

    Args:
        path: the model's file.
        optimized: run with the runtime's own optimizations on.

    Raises:
        MissingToolError: onnxruntime is not installed.
        CheckFailedError: it does not load the model.
    """

    def __init__(self, path: Path, *, optimized: bool = False) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingToolError(
                "onnxruntime is needed to run a model", remedy="pip install 'tautomer[ort]'"
            ) from error
        options = onnxruntime.SessionOptions()
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own classes derive from nothing narrower
            raise CheckFailedError(
                f"onnxruntime does not load the model: {_first_line(error)}", where=path.name
            ) from error

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name.

        Raises:
            CheckFailedError: onnxruntime does not run the model on these inputs.
        """
        names = [output.name for output in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(None, dict(inputs)), strict=True))
        except Exception as error:  # onnxruntime's own classes derive from nothing narrower
            raise CheckFailedError(f"onnxruntime does not run the model: {_first_line(error)}") from error


@contextmanager
def session_of(model: ir.Model, name: str) -> Iterator[Session]:
    """A session of a model in memory, through a temporary file of that name."""
    with tempfile.TemporaryDirectory(prefix="tautomer-") as folder:
        path = Path(folder) / f"{name}.onnx"
        write_model(model, path)
        yield Session(path)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
