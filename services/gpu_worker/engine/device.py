"""Where a model runs, and in what numbers."""

import platform
from pathlib import Path

import torch

from shared.errors import ModelUnavailable

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """By "auto", CUDA where there is one. Raises ``ModelUnavailable`` for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelUnavailable('There is no CUDA device here: set the device to "auto" or "cpu".')
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """By "auto", bfloat16 on CUDA and float32 on a CPU."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return _DTYPES[name]


def describe_architecture(device: torch.device) -> str:
    """What compiled code runs on: "sm_89" for an L4, or the CPU with all that it can do."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"sm_{major}{minor}"
    flags = " ".join(sorted(_cpu_flags()))
    return f"{platform.machine()} {flags or platform.processor()}".strip()


def _cpu_flags() -> set[str]:
    """The instruction sets of this CPU, as Linux names them; none where it cannot be known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
    except OSError:
        return set()
    found = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return set(next(found, "").split())
