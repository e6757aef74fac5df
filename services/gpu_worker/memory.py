"""How much memory a render may take, and the watch that sees it take more."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import anyio
import psutil

# Half a second of the fastest allocation there is fits into what is kept free.
_LOOK_SECONDS = 0.5
_KEPT_FREE = 0.1
_MEGABYTE = 1024 * 1024


def memory_limit_bytes(limit_mb: int | None, *, root: Path = Path("/")) -> int:
    """The configured limit, or most of what this container, or else this machine, has."""
    if limit_mb is not None:
        return limit_mb * _MEGABYTE
    available = min([psutil.virtual_memory().total, *_cgroup_limits(root)])
    return int(available * (1 - _KEPT_FREE))


def in_megabytes(size_bytes: int) -> int:
    return size_bytes // _MEGABYTE


def used_bytes(pid: int) -> int:
    """What the process has in memory for itself; 0 once it is gone.

    Pages of mapped files, a model's weights, are not counted: the kernel takes those back when
    memory is short.
    """
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.NoSuchProcess:
        return 0
    return int(memory.rss) - int(getattr(memory, "shared", 0))  # macOS does not tell what is shared


async def wait_until_above(pid: int, limit_bytes: int) -> None:
    """Return when the process takes more than the limit."""
    while used_bytes(pid) <= limit_bytes:  # noqa: ASYNC110 - the kernel has no event for it
        await anyio.sleep(_LOOK_SECONDS)


def _cgroup_limits(root: Path) -> Iterator[int]:
    """What the control groups around this process allow, of either version, in bytes."""
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # not Linux
    for membership in memberships:
        _, controllers, group = membership.split(":", 2)
        if not controllers:
            yield from _limits(root / "sys/fs/cgroup", group, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits(root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes")


def _limits(mount: Path, group: str, name: str) -> Iterator[int]:
    """Of the group and of each around it: the tightest one holds.

    In a container the group's path may be the host's and lead nowhere; the mount is its own then.
    """
    path = PurePosixPath(group)
    for folder in (path, *path.parents):
        try:
            text = (mount / folder.relative_to("/") / name).read_text().strip()
        except (OSError, ValueError):
            continue
        if text.isdecimal():  # "max" is no limit
            yield int(text)
