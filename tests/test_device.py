"""What a GPU would refuse or wait for, on PyTorch's `meta` device, and a step's peak memory.

On `meta` tensors have a shape and no values. Not covered there: fused Adam and autocast, which it
lacks, and the values themselves, which `make gpu-check` compares where there is a GPU.

python tests/test_device.py    print the memory table of docs/gpu.md
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from functools import cache
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torchgen
from golden import write_store
from helpers import CPU, ROOT, TRAINED, build, data_info, in_memory, training
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary
from torchgen.gen import parse_native_yaml
from torchgen.model import DispatchKey

from infoseg.data.batches import DeviceData, centre_crops
from infoseg.evaluation import confusions
from infoseg.methods.base import DataInfo, Method
from infoseg.methods.registry import METHODS
from infoseg.settings import MethodSettings, load_params
from infoseg.training import Optimisation

META = torch.device("meta")
aten = torch.ops.aten
#: Operations whose result, or its shape, the host reads.
READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default}
#: Operations that deterministic CUDA refuses by the list in `torch.use_deterministic_algorithms`.
#: Bilinear interpolation is made of other operations then (`F.interpolate`), here as on CUDA.
MAY_REFUSE = (
    "adaptive_avg_pool", "adaptive_max_pool", "avg_pool3d", "fractional_max_pool", "max_unpool",
    "upsample_linear", "upsample_bilinear", "upsample_bicubic", "upsample_trilinear",
    "reflection_pad", "nll_loss", "_ctc_loss", "_embedding_bag", "put", "histc", "bincount",
    "median", "grid_sampler_2d_backward", "grid_sampler_3d_backward", "cumsum", "scatter_reduce",
)  # fmt: skip
#: Those of them that a training has: docs/gpu.md.
REFUSED = {
    "doersch": {"grid_sampler_2d_backward", "nll_loss_forward", "nll_loss_backward"},
    "isola": {"grid_sampler_2d_backward"},
    "inmars": {"grid_sampler_2d_backward"},
}


def refused(operations: dict[str, bool]) -> set[str]:
    """Those on the list. Cumsum stands there for real numbers, and no other makes whole ones."""
    return {name for name, real in operations.items() if real and name.startswith(MAY_REFUSE)}


class Watch(TorchDispatchMode):
    """Refuse tensors of two devices in one operation, and values read by the host.

    may_read: let the host read, which then gets zeros. operations: names of those that ran, and
    whether real numbers came out. reads: operations that the host waited for. live, peak: bytes in
    storages that were made here.
    """

    def __init__(self, may_read: bool = False):
        super().__init__()
        self.may_read = may_read
        self.operations: dict[str, bool] = {}
        self.reads: list[str] = []
        self.live = self.peak = 0
        self._sizes = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        to_host = func is aten._to_copy.default and kwargs.get("device") == CPU != given[0].device
        masks = func in (
            aten.index.Tensor,
            aten.index_put.default,
            aten.index_put_.default,
        ) and any(x is not None and x.dtype == torch.bool for x in args[1])
        if func in READS or to_host or masks:
            self.reads.append(str(func))
            if not self.may_read:
                raise RuntimeError(f"the host waits for {func}")
            return torch.zeros(given[0].shape, dtype=given[0].dtype) if to_host else 0.0
        self._check(func, given)
        result = func(*args, **kwargs)
        made = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self._check(func, given + made)
        name = str(func).removeprefix("aten.").removesuffix(".default")
        floats = any(x.is_floating_point() for x in made)
        self.operations[name] = self.operations.get(name, False) or floats
        for storage in (x.untyped_storage() for x in made):
            if storage not in self._sizes:
                self._sizes[storage] = size = storage.nbytes()
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._freed, size)
        return result

    @staticmethod
    def _check(func, tensors: list[torch.Tensor]) -> None:
        """Raise RuntimeError for tensors of two devices; a number of the CPU goes with any."""
        devices = {x.device.type for x in tensors if x.dim() or x.device != CPU}
        if len(devices) > 1:
            raise RuntimeError(f"{func}: tensors of {sorted(devices)}")

    def _freed(self, size: int) -> None:
        self.live -= size


# ---- on `meta` -----------------------------------------------------------------------------------


class MetaGenerator(torch.Generator):
    """A generator that says it is of `meta`, which has none; there nothing is drawn."""

    device = META

    def __new__(cls, device: torch.device | str = "cpu"):
        return super().__new__(cls)


@pytest.fixture
def on_meta(monkeypatch):
    """What `meta` lacks is left out; algorithms are deterministic, as far as CUDA has them."""
    monkeypatch.setattr(torch, "Generator", MetaGenerator)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch, "_fused_adam_", lambda *_, **__: None)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)
    torch.set_deterministic_debug_mode("error")
    yield META
    torch.set_deterministic_debug_mode("default")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("device") / "data", 3)


def on_device(kind: str, prepared: Any) -> tuple[Method, DeviceData]:
    with META:
        method = build(kind)
    return method, DeviceData(prepared, 32, META, method.sees)


@cache
def cuda_kernels() -> tuple[dict[str, Any], Any]:
    """PyTorch's own table of operations, and which of them have a CUDA kernel."""
    folder = Path(torchgen.__file__).parent / "packaged/ATen/native"
    table = parse_native_yaml(str(folder / "native_functions.yaml"), str(folder / "tags.yaml"))
    functions = {str(f.func.name): f for f in table.native_functions}
    return functions, table.backend_indices[DispatchKey.CUDA]


def runs_on_cuda(name: str) -> bool:
    """Whether an operation has a kernel for CUDA, or is made of operations for every device."""
    functions, cuda = cuda_kernels()
    function = functions[name]
    if function.structured_delegate:
        function = functions[str(function.structured_delegate)]
    return cuda.has_kernel(function) or function.has_composite_kernel


@pytest.mark.parametrize("kind", TRAINED)
def test_a_step_stays_on_the_device_and_waits_for_nothing_but_the_log(kind, on_meta, prepared):
    method, data = on_device(kind, prepared)
    optimisation = Optimisation(method, data, training(log_every=3), 0, kind)
    with Watch() as watch:
        for _ in range(2):
            assert optimisation.advance() is None
        assert not watch.reads
        watch.may_read = True
        assert optimisation.advance() == 0  # by now IIC trains its other head
        assert watch.reads == ["aten._to_copy.default"]
    assert {"convolution", "convolution_backward"} <= watch.operations.keys()
    assert not {name for name in watch.operations if not runs_on_cuda(name)}
    assert refused(watch.operations) == REFUSED.get(kind, set())


@pytest.mark.parametrize("kind", METHODS)
def test_evaluation_and_segmentation_stay_on_the_device(kind, on_meta, prepared):
    method, data = on_device(kind, prepared)
    with Watch(may_read=True) as watch:
        counts, _ = confusions(method, data, 4)
        assert counts.shape == (len(data.evaluated), 3, 3)
        # The table, and the mean entropy where there is one: once, after all batches.
        assert len(watch.reads) <= 2
    with Watch() as watch, torch.no_grad():
        views = next(centre_crops(data, data.evaluated, 2))
        assert method.eval().segment(views).shape == (2, 32, 32)
    assert not {name for name in watch.operations if not runs_on_cuda(name)}
    assert not refused(watch.operations)


FAULTS = {
    "a number": lambda loss: loss * loss.item(),
    "a condition": lambda loss: loss if loss > 0 else -loss,
    "a list": lambda loss: loss * loss[None].tolist()[0],
    "a mask": lambda loss: loss[None][loss[None] > 0].sum(),
    "a copy": lambda loss: loss.cpu(),
    "a tensor of the CPU": lambda loss: (loss * torch.ones(2)).sum(),
    "a tensor taken to the device": lambda loss: (loss * torch.ones(2).to(META)).sum(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_loss_that_waits_or_mixes_devices_fails(fault, on_meta, prepared):
    method, data = on_device("infoseg", prepared)
    right = method.loss
    method.loss = lambda views, generator: FAULTS[fault](right(views, generator))
    optimisation = Optimisation(method, data, training(), 0, "patched")
    with Watch(), pytest.raises(RuntimeError, match=r"the host waits|tensors of \['cpu', 'meta'\]"):
        optimisation.advance()


# ---- memory --------------------------------------------------------------------------------------


def blank(settings: MethodSettings, info: DataInfo, crop: int, method: Method) -> DeviceData:
    """A batch of black pictures of the crop's size, with superpixels of 100 px where asked for."""
    count = settings.optimiser.batch
    image, label = np.zeros((crop, crop, info.channels), np.uint8), np.zeros((crop, crop), np.uint8)
    data = in_memory([image] * count, [label] * count)
    meta = SimpleNamespace(classes=["class"] * info.clusters, regions=crop**2 // 100)
    regions = np.zeros(count * crop**2, np.uint16)
    return DeviceData(dataclasses.replace(data, meta=meta, regions=regions), crop, CPU, method.sees)


def peak_of_a_step(
    settings: MethodSettings, info: DataInfo, crop: int, fake: bool = True, **how: Any
) -> int:
    """Bytes that two steps hold at most: weights, Adam, gradients, activations; not the data.

    fake: nothing is computed, which takes no memory. `meta` has no autocast, so these are PyTorch's
    fake tensors of the CPU, whose autocast changes the same layers as CUDA's.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode() if fake else contextlib.nullcontext()
    watch = Watch()
    with mode, watch:
        method = METHODS[settings.kind](settings, info)
    data = blank(settings, info, crop, method)
    if fake:
        tensors = {k: v for k, v in vars(data).items() if isinstance(v, torch.Tensor)}
        vars(data).update({k: mode.from_tensor(v) for k, v in tensors.items()})
    with mode, watch:
        optimisation = Optimisation(method, data, training(log_every=20, **how), 0, "memory")
        for _ in range(2):
            optimisation.advance()
    return watch.peak


@pytest.mark.parametrize("kind", ["infoseg", "iic"])
def test_the_counted_peak_is_the_one_that_the_allocator_reports(kind):
    settings = load_params(ROOT, "tiny").method(kind, "coco_stuff3")
    settings = settings.model_copy(
        update={"optimiser": settings.optimiser.model_copy(update={"batch": 8})}
    )
    counted = peak_of_a_step(settings, data_info(), 64, precision="bfloat16")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        peak_of_a_step(settings, data_info(), 64, fake=False, precision="bfloat16")
    events = profiled.profiler.kineto_results.events()
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    # The pictures of `blank` are in it, 0.1 MB, and what oneDNN needs for a convolution.
    assert counted == pytest.approx(max(accumulate(changes)), rel=0.05)


def paper_peak(kind: str, dataset: str, recompute: bool) -> int:
    """Bytes of a step at the paper profile's settings, in bfloat16 as on CUDA."""
    params = load_params(ROOT, "paper")
    channels = 4 if dataset.startswith("potsdam") else 3
    info = data_info(params.datasets[dataset].clusters, channels)
    crop, settings = params.datasets[dataset].crop, params.method(kind, dataset)
    return peak_of_a_step(settings, info, crop, precision="bfloat16", recompute=recompute)


def test_checkpointing_makes_room_at_the_papers_sizes():
    assert paper_peak("isola", "potsdam", recompute=True) < 12e9
    assert paper_peak("isola", "potsdam", recompute=False) > 14e9
    assert paper_peak("infoseg", "potsdam", recompute=False) < 6e9


#: Of the paper's data sets on the device: pictures, pixels of each, bytes of each. COCO's pictures
#: have 640 x 480 px before they are scaled [assumption; most are that large or smaller].
PIXELS = {
    "coco_persons": (15_399, 171 * 128, 4),
    "coco_stuff3": (36_660, 211 * 158, 4),
    "coco_stuff": (51_804, 211 * 158, 4),
    "potsdam": (8_550, 200 * 200, 5),
}


def main() -> None:
    """Print what a training needs on the device, GB: without and with `training.recompute`."""
    rows: dict[str, dict[str, str]] = {}
    for kind in TRAINED:
        regions = 2 * METHODS[kind].sees.regions
        for dataset, (pictures, pixels, size) in PIXELS.items():
            data = pictures * pixels * (size + regions)
            steps = [paper_peak(kind, dataset, recompute) for recompute in (False, True)]
            cells = [f"{(data + step) / 1e9:.1f}" for step in steps]
            rows.setdefault(kind, {})[dataset] = " / ".join(dict.fromkeys(cells))
    data = {name: f"{n * pixels * size / 1e9:.1f}" for name, (n, pixels, size) in PIXELS.items()}
    print(pd.DataFrame(rows | {"of that the data": data}).T.to_markdown())


if __name__ == "__main__":
    main()
