"""Device, threads, precision, seeds; what ran where; which code decides a run's numbers."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import hashlib
import importlib.metadata
import json
import os
import platform
import random
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infoseg.files import ParamsError, TrainingError
from infoseg.settings import TrainingParams


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
    return device.type == "cpu" if params.deterministic == "auto" else params.deterministic


def seed_everything(seed: int) -> None:
    """Seed PyTorch's, NumPy's and Python's global generators."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


@contextlib.contextmanager
def reproducible(params: TrainingParams, seed: int | None = None) -> Iterator[torch.device]:
    """Fixed threads and, where asked for, deterministic algorithms; undone afterwards.

    seed: for the global generators, or None to leave them as they are. Without deterministic
    algorithms (on CUDA by default), the same seed gives the same bytes only where every kernel
    involved happens to be deterministic.
    Raises TrainingError for an operation that has no deterministic form on this device.
    """
    device, memory = choose_device(params.device), torch.utils.deterministic
    deterministic = is_deterministic(params, device)
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    benchmark, filled = torch.backends.cudnn.benchmark, memory.fill_uninitialized_memory
    torch.set_num_threads(params.threads)
    if seed is not None:
        seed_everything(seed)
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
        memory.fill_uninitialized_memory = False
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
        memory.fill_uninitialized_memory = filled
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


# ---- what ran where ------------------------------------------------------------------------------

#: Libraries whose version can change a number.
LIBRARIES = "torch numpy scipy scikit-learn scikit-image opencv-python-headless pillow".split()


def facts(params: TrainingParams, device: torch.device) -> dict[str, Any]:
    """What of a machine and its environment can change a run's numbers."""
    cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "device": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "cuda": torch.version.cuda if cuda else None,
        "precision": str(choose_precision(params.precision, device) or torch.float32)[6:],
        "deterministic": is_deterministic(params, device),
    }


@cache
def cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_commit(root: Path) -> str | None:
    """The commit checked out, or None outside a git checkout."""
    command = ["git", "rev-parse", "HEAD"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else None
    return None


# ---- which code decides the numbers --------------------------------------------------------------

PACKAGE = Path(__file__).parent
#: What every training runs, beside the module of its method.
TRAINING_CODE = ("infoseg.training", "infoseg.evaluation")
#: Left out of all hashes: settings count by their values, and files and errors decide no number.
NO_NUMBERS = frozenset({"infoseg.settings", "infoseg.files"})


def code_hashes(modules: Sequence[str]) -> dict[str, str]:
    """SHA-256 of the syntax tree of these modules and of all of ours that they import.

    Comments, docstrings and the layout of the source are not in it; Python's version is, since it
    decides what a syntax tree looks like.
    """
    waiting, hashes = list(modules), {"python": ".".join(platform.python_version_tuple()[:2])}
    while waiting:
        module = waiting.pop()
        if module not in hashes and module not in NO_NUMBERS:
            hashes[module], imported = _parsed(module)
            waiting += imported
    return dict(sorted(hashes.items()))


@cache
def _parsed(module: str) -> tuple[str, tuple[str, ...]]:
    """The hash of one module, and the modules of this package that it imports anywhere."""
    tree = ast.parse(_source(module).read_bytes())
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("infoseg"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            imported += [name if _source(name).exists() else node.module for name in names]
        elif isinstance(node, ast.Import):
            imported += [a.name for a in node.names if a.name.startswith("infoseg")]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(imported)


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring, of whatever stands before it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _source(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    file = path.with_suffix(".py")
    return file if file.exists() or not path.is_dir() else path / "__init__.py"


def hash_of(content: Any) -> str:
    """SHA-256 of JSON's types, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
