"""Where a model runs, and in what numbers."""

import platform
from pathlib import Path

import torch

from shared.errors import ModelUnavailable

# Of a CPU's flags, those that name instructions a compiler uses.
_INSTRUCTIONS = (
    *("abm", "adx", "aes", "amx", "avx", "bmi", "f16c", "fma", "gfni", "movbe", "pclmul"),
    *("popcnt", "sha", "sse", "ssse", "vaes", "vpclmul"),
)
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
    """This CPU's instruction sets, as Linux names them; none where they cannot be known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
    except OSError:
        return set()
    for line in lines:
        name, _, flags = line.partition(":")
        if name.strip() == "flags":  # x86
            return {flag for flag in flags.split() if flag.startswith(_INSTRUCTIONS)}
        if name.strip() == "Features":  # Arm
            return set(flags.split())
    return set()
