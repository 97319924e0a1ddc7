"""A launch as files, for the child of a first run: `job.json`, the module of the kernel, and its tensors.

A tensor is written as the storage that it lies in, with its shape and strides, so that it lies there as it
lies here, and tensors that share memory do so there.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tautomer.errors import InternalError
from tautomer.runtime.triton.grid import Launch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Job:
    """Files that were written.

    Attributes:
        folder: that they are in.
        storages: of the tensors, by number.
    """

    folder: Path
    storages: tuple[torch.UntypedStorage, ...]

    def read_back(self) -> None:
        """Puts what the child wrote into the tensors.

        Raises:
            InternalError: it is of another size.
        """
        for index, storage in enumerate(self.storages):
            content = (self.folder / f"storage{index}").read_bytes()
            if len(content) != storage.nbytes():
                raise InternalError(f"a first run gave {len(content)} bytes for {storage.nbytes()}")
            ctypes.memmove(storage.data_ptr(), content, len(content))


def write_job(folder: Path, kernel: Launch, arguments: Sequence[Any]) -> Job:
    """Writes a launch on tensors of the CPU.

    Args:
        folder: an empty one.
        kernel: what is launched.
        arguments: tensors, descriptors of tensors, and numbers.
    """
    import torch

    storages: dict[int, torch.UntypedStorage] = {}

    def tensor(x: torch.Tensor) -> dict[str, Any]:
        storage = x.untyped_storage()
        storages.setdefault(storage.data_ptr(), storage)
        return {
            "storage": list(storages).index(storage.data_ptr()),
            "dtype": str(x.dtype).removeprefix("torch."),
            "shape": list(x.shape),
            "strides": list(x.stride()),
            "offset": x.storage_offset(),
        }

    def argument(one: Any) -> Any:
        if isinstance(one, torch.Tensor):
            return {"tensor": tensor(one)}
        if isinstance(one, int):
            return {"whole": one}
        if isinstance(one, float):
            return {"number": one.hex()}  # JSON has no infinity
        return {"tensor": tensor(one.base), "block": list(one.block_shape)}

    job = {
        "name": kernel.name,
        "programs": kernel.programs,
        "settings": kernel.settings(),
        "arguments": [argument(one) for one in arguments],
    }
    job["storages"] = len(storages)
    (folder / "kernel.py").write_text(kernel.text)
    (folder / "job.json").write_text(json.dumps(job))
    for index, storage in enumerate(storages.values()):
        content = ctypes.string_at(storage.data_ptr(), storage.nbytes())
        (folder / f"storage{index}").write_bytes(content)
    return Job(folder, tuple(storages.values()))
