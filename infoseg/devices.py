"""Which device, how many threads, which precision: the machine as runs see it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
from collections.abc import Iterator

import numpy as np
import torch

from infoseg.errors import ParamsError, TrainingError
from infoseg.params import TrainingParams


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises ParamsError when CUDA is asked for in vain."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ParamsError(f"training.device is '{name}', but torch sees no CUDA device here")
    return torch.device(name)


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX512-BF16 or AMX)."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and bool(
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def choose_precision(name: str, device: torch.device) -> torch.dtype | None:
    """The autocast type, or None for float32."""
    if name == "auto":
        name = "bfloat16" if device.type == "cuda" or cpu_has_bfloat16() else "float32"
    return torch.bfloat16 if name == "bfloat16" else None


def autocast(device: torch.device, precision: torch.dtype | None) -> torch.autocast:
    """The context a method's forward pass runs in; precision: of `choose_precision`."""
    return torch.autocast(device.type, precision, enabled=precision is not None)


def is_deterministic(params: TrainingParams, device: torch.device) -> bool:
    """Whether only algorithms are used that give the same bytes for the same seed."""
    if params.deterministic == "auto":
        return device.type == "cpu"
    return params.deterministic


@contextlib.contextmanager
def reproducible(params: TrainingParams, seed: int) -> Iterator[torch.device]:
    """Fixed threads and seeds and, where asked for, deterministic algorithms; undone afterwards.

    Without the latter (on CUDA by default), the same seed gives the same bytes only where every
    kernel involved happens to be deterministic.
    Raises TrainingError for an operation that has no deterministic form on this device.
    """
    device = choose_device(params.device)
    deterministic = is_deterministic(params, device)
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    benchmark = torch.backends.cudnn.benchmark
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.set_num_threads(params.threads)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    if device.type == "cuda":
        # Crops have one size, so the search for the fastest convolution pays once; its choice is a
        # matter of timing.
        torch.backends.cudnn.benchmark = not deterministic
        if deterministic:
            # Read when cuBLAS is first used.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    else:
        keep_freed_memory()
    if deterministic:
        # As `torch.use_deterministic_algorithms`, which loads torch's compiler first: 2 s.
        torch.set_deterministic_debug_mode("error")
        # Fresh memory is not filled with NaN: 6 % of InfoSeg's step, a guard against bugs alone.
        torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield device
    except RuntimeError as error:
        if "does not have a deterministic implementation" in str(error):
            raise TrainingError(
                f"training.deterministic: {str(error).partition('.')[0]}. Set it to false"
            ) from None
        raise
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.backends.cudnn.benchmark = benchmark


def keep_freed_memory() -> None:
    """Let this process reuse what it frees, where the C library is GNU's; elsewhere do nothing.

    By default it hands every large block back and is given zeroed pages at the next step: 4 % of
    InfoSeg's step on the demo. The most a process holds stays about the same.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 32 << 20)  # more is refused by older versions


def peak_memory(device: torch.device) -> int:
    """Bytes: the most this process held so far (CUDA: on the device; CPU: resident)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    scale = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
