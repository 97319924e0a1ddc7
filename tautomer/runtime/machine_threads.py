"""How many threads may run at once: processors, affinity and the container's quota.

Every file may be missing, unreadable or full of nonsense; what cannot be read limits nothing.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_MOST = 1 << 16  # processors: a larger number is a mistake


@dataclass(frozen=True)
class Threads:
    """What limits the threads of this process.

    Attributes:
        cores: processors that the system sees.
        affinity: how many of them the system lets this process run on.
        quota: processor time per time that the container is given; None without a limit.
    """

    cores: int
    affinity: int
    quota: float | None

    @property
    def usable(self) -> int:
        """How many threads are worth running; a part of a processor is worth one."""
        return max(1, min(self.cores, self.affinity, math.ceil(self.quota or self.cores)))

    @property
    def reason(self) -> str:
        """Why they are fewer than the processors, or nothing."""
        if self.usable >= self.cores:
            return ""
        if self.affinity <= self.usable:
            return f"this process may run on {self.affinity} only: see taskset or cpuset"
        return f"the container's quota is {self.quota:.3g} processors"


def threads_of(root: Path) -> Threads:
    """What limits this process, by the files below that root."""
    online = _count(text_of(root / "sys/devices/system/cpu/online"))
    cores = online or os.cpu_count() or 1
    try:
        affinity = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on every system, and not for every number of processors
        affinity = cores
    return Threads(cores, affinity or 1, min(_quotas(root), default=None))


def text_of(path: Path) -> str:
    """A small text file of the system, or nothing."""
    try:
        with path.open(errors="replace") as file:
            return file.read(1 << 16)
    except (OSError, ValueError):
        return ""


def _count(ranges: str) -> int:
    """How many numbers "0-3,8" names; 0 when it cannot be read."""
    count = 0
    for one in ranges.strip().split(","):
        ends = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", one)
        if not ends or int(ends[2] or ends[1]) < int(ends[1]):
            return 0
        count += int(ends[2] or ends[1]) - int(ends[1]) + 1
    return count if count <= _MOST else 0


def _quotas(root: Path) -> Iterator[float]:
    """Every quota that holds for this process, in processors, of either version of cgroups."""
    mounts = root / "sys/fs/cgroup"
    for line in text_of(root / "proc/self/cgroup").splitlines() or ["0::/", "0:cpu:/"]:
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        if not controllers:
            for mount in (mounts, mounts / "unified"):
                for group in _upwards(mount, own):
                    limit, _, period = text_of(group / "cpu.max").strip().partition(" ")
                    yield from _ratio(limit, period)
        elif "cpu" in controllers.split(","):
            for mount in dict.fromkeys((mounts / controllers, mounts / "cpu")):
                for group in _upwards(mount, own):
                    limit, period = text_of(group / "cpu.cfs_quota_us"), text_of(group / "cpu.cfs_period_us")
                    yield from _ratio(limit.strip(), period.strip())


def _upwards(mount: Path, own: str) -> Iterator[Path]:
    """The folder of a group and of all above, which have a say too.

    A container often sees its own group as the root, while its name is the one outside; the folders in
    between are then not there, which does no harm.
    """
    inner = PurePosixPath(own.lstrip("/"))
    if ".." not in inner.parts:
        yield from (mount / group for group in (inner, *inner.parents) if group != PurePosixPath())
    yield mount


def _ratio(limit: str, period: str) -> Iterator[float]:
    """The quotient, if it is a limit: not for "max", -1, or what is no number."""
    if re.fullmatch(r"\d{1,15}", limit) and re.fullmatch(r"\d{1,15}", period) and int(limit) and int(period):
        yield int(limit) / int(period)
