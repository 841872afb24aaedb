"""What computes the vectors on this machine: the settings of model-config.yaml, resolved."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

_RUNTIMES = ("auto", "openvino", "torch")
_PRECISIONS = {"openvino": ("fp32", "int8", "fp16", "bf16"), "torch": ("fp32", "fp16", "bf16")}
_DEVICES = ("auto", "cpu", "cuda")
# `precision: fast`: the first whose instructions the CPU has. OpenVINO computes bf16 and fp16 without them, too, but by
# way of float32, and slower than that. bf16 comes first: it is as fast as int8 and nearer to float32.
_NATIVE = (
    ("bf16", {"amx_bf16", "avx512_bf16"}),
    ("fp16", {"amx_fp16", "avx512_fp16", "asimdhp"}),
    ("int8", {"avx512_vnni", "avx_vnni"}),
)
_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")


class ConfigError(Exception):
    """model-config.yaml asks for what cannot be; the message names the setting and its values."""


@dataclass(frozen=True)
class Runtime:
    """What computes, how exactly, where, and on how many threads."""

    name: str
    precision: str
    device: str
    threads: int


def choose_runtime(name: str, precision: str, device: str, threads: int) -> Runtime:
    """The settings of model-config.yaml, `auto`, `fast` and 0 resolved for this machine. Raises ConfigError."""
    if name not in _RUNTIMES:
        raise ConfigError(f"runtime is {name!r}, but must be one of {', '.join(_RUNTIMES)}")
    if name == "auto":
        name = "openvino" if device == "cpu" else "torch"
    if precision == "auto":
        precision = "fp32" if device == "cpu" else "fp16"
    elif precision == "fast":
        precision = _native_precision(name) if device == "cpu" else "fp16"
    if precision not in _PRECISIONS[name]:
        allowed = ", ".join(("auto", "fast", *_PRECISIONS[name]))
        raise ConfigError(f"precision is {precision!r}, but the runtime {name} has {allowed}")
    if name == "openvino" and device != "cpu":
        raise ConfigError(f"the runtime openvino is for the CPU, but the worker was given {device}: use torch or auto")
    return Runtime(name, precision, device, threads or usable_cores())


def choose_device(asked: str, gpu_id: int | None) -> str:
    """`device` of model-config.yaml, and the GPU TorchServe gave this worker, if any -> "cpu" or "cuda:N".

    TorchServe counts the machine's GPUs whether or not this PyTorch can use them: with `auto` a GPU that cannot be used
    is said in the log and the CPU computes; with `cuda` it raises ConfigError.
    """
    if asked not in _DEVICES:
        raise ConfigError(f"device is {asked!r}, but must be one of {', '.join(_DEVICES)}")
    if asked == "cpu" or (asked == "auto" and gpu_id is None):
        return "cpu"
    number = gpu_id or 0
    if problem := _gpu_problem(number):
        if asked == "cuda":
            raise ConfigError(f"device is cuda, but {problem}: mend that, or set device to auto or cpu")
        logger.warning("GPU %d is not used: %s; the CPU computes", number, problem)
        return "cpu"
    return f"cuda:{number}"


def _gpu_problem(number: int) -> str | None:
    import torch  # takes a second and 200 MB, for nothing where there is no GPU

    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA (install its CUDA build)"
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} finds no GPU that its CUDA {torch.version.cuda} can use (see nvidia-smi)"
    if number >= torch.cuda.device_count():
        return f"PyTorch sees only {torch.cuda.device_count()} GPUs (see CUDA_VISIBLE_DEVICES)"
    return None


def _native_precision(runtime: str) -> str:
    """The fastest precision that this CPU computes natively and the runtime has."""
    try:
        words = {word for line in _CPUINFO.read_text().splitlines() for word in line.partition(":")[2].split()}
    except OSError:
        words = set()
    allowed = _PRECISIONS[runtime]
    return next((name for name, flags in _NATIVE if name in allowed and flags & words), "fp32")


def usable_cores() -> int:
    """The cores this process may keep busy: its affinity, and its cgroup's quota where there is one."""
    cores = len(os.sched_getaffinity(0))
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # cgroups of version 2 and 1
        try:
            quota, period = " ".join((_CGROUP / file).read_text() for file in files).split()
            limit = int(quota) / int(period)
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if limit > 0:
            cores = min(cores, math.ceil(limit))
    return cores
