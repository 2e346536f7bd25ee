"""Train every method and every ablation for ten steps: did any number move?

python tests/golden.py renew                  write golden.json, which test_golden.py compares with
python tests/golden.py compare COMMIT         compare this tree with a commit, byte for byte
python tests/golden.py compute TREE [CASE…]   print what is recorded, computed by TREE's package

All settings stand here, so that a change of `conf/` moves nothing; the data are made of integers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

import infoseg
from infoseg.data.batches import DeviceData, centre_crops
from infoseg.data.store import Prepared, PreparedWriter, load_prepared
from infoseg.evaluation import evaluate
from infoseg.machine import choose_precision, reproducible
from infoseg.methods.base import DataInfo, Method
from infoseg.methods.registry import METHODS
from infoseg.settings import SuperpixelSettings, TrainingParams
from infoseg.training import train

Record = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "tests" / "golden.json"
SEEDS = (0, 1)
CROP, CLASSES = 32, 3
FIGURES = ("pa", "miou", "assignment_entropy", "permutation_gap")
#: On other machines: how far the loss of step n may move, divided by n, relative and absolute; the
#: share of labels that have to be the same. AVX2 for AVX-512 moved losses by 0.64e-3 at most
#: (InMARS; all others by 0.04e-3) and left 98.3 % of the labels (InMARS); SSE4, 1.4e-3 and 91.5 %.
TOLERANCE, AGREEMENT = 2e-3, 0.9

# ---- the package's interface: what another commit may have otherwise stands here alone -----------

#: Keys that a version of the package may not have, with what it then does anyway.
# fmt: off
NEUTRAL = dict(
    title="golden", paper_row=None, per_dataset={}, block_b="pool", head_bias=None, input="colour",
    standardise="dataset", negatives="derangement", schedule="constant", scale="fixed", jitter=None,
    views="one", warm_up=None, mask=False, arl_weight=0.0, arl_window=1, arl_features=6, images=1,
    compile=False, recompute=False,
)
# fmt: on


def known(settings: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Leave out the keys that a model does not have, where they are neutral."""
    kept = {}
    for key, value in settings.items():
        if key in model.model_fields:
            kind = model.model_fields[key].annotation
            inner = isinstance(kind, type) and issubclass(kind, BaseModel)
            kept[key] = known(value, kind) if inner else value
        elif key not in NEUTRAL or NEUTRAL[key] != value:
            kept[key] = value  # for the model to refuse
    return kept


def build(kind: str, settings: dict[str, Any], info: DataInfo, seed: int) -> Method:
    torch.manual_seed(seed)
    method = METHODS[kind]
    return method(method.Settings.model_validate(known(settings, method.Settings)), info)


def run_training(
    settings: dict[str, Any], prepared: Prepared, seed: int, training: dict[str, Any]
) -> tuple[Method, list[dict[str, Any]], np.ndarray]:
    """Train; return the method, its history and the label maps (N, H, W) of labelled images."""
    meta = prepared.meta
    info = DataInfo(CLASSES, meta.channels, tuple(meta.mean), tuple(meta.std))
    params = TrainingParams(**known(training, TrainingParams))
    with reproducible(params, seed) as device:
        method = build(settings["kind"], settings, info, seed)
        data = DeviceData(prepared, CROP, device, method.sees)
        batch, precision = params.evaluation_batch, choose_precision(params.precision, device)

        def evaluate_now() -> dict[str, Any]:
            return evaluate(method, data, batch, meta.classes, precision)

        history = train(method, data, params, seed, evaluate_now).history
        method.eval()
        with torch.no_grad():
            crops = centre_crops(data, data.evaluated, batch)
            maps = torch.cat([method.segment(views) for views in crops])
    return method, history, maps.numpy().astype(np.uint8)


def write_store(path: Path, channels: int) -> Prepared:
    """Write a data set of noisy blocks: images of five sizes, some unlabelled, and open it."""
    rng = np.random.default_rng(channels)
    tones = np.array([[60, 90, 50, 160], [180, 120, 90, 110], [90, 150, 210, 60]])[:, :channels]
    made = SuperpixelSettings(pixels_per_region=30, compactness=10, smoothing=0)
    about = {"name": "golden", "channels": channels, "classes": ["a", "b", "c"], "parameters": {}}
    with PreparedWriter(path, **about, superpixels=made) as writer:
        for i, (height, width) in enumerate([(40, 40), (44, 36), (36, 48), (32, 32), (28, 40)] * 3):
            blocks = rng.integers(0, CLASSES, (-(-height // 8), -(-width // 8)))
            classes = np.kron(blocks, np.ones((8, 8), int))[:height, :width]
            noise = rng.integers(-30, 31, (height, width, channels))
            image = tones[classes] + noise + rng.integers(-15, 16, channels)
            labels = classes.astype(np.uint8)
            labels[8 : 8 + i % 7, 3:20] = 255
            rows, columns = np.arange(height)[:, None] // 6, np.arange(width) // 5
            regions = (rows * (columns.max() + 1) + columns).astype(np.uint16)
            image = image.astype(np.uint8)
            writer.add(f"image{i}", image, None if i % 4 == 3 else labels, "train", regions)
    return load_prepared(path)


# ---- the cases -----------------------------------------------------------------------------------

# fmt: off
TRAINING = dict(
    images=1, device="cpu", threads=1, precision="float32", compile=False, recompute=False,
    evaluations=2, evaluation_batch=4, log_every=1, deterministic="auto",
)
HEAD = dict(title="golden", paper_row=None, per_dataset={})
OPTIMISER = dict(
    steps=10, batch=6, learning_rate=1e-3, schedule="constant", average=0, flip=True, crop=None,
)
JITTER = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.125)
INFOSEG = HEAD | dict(
    kind="infoseg",
    network=dict(
        block_a="figure3", width=0.05, layers_b=2, block_b="pool", features=16, block_c="residual",
        norm_c="none", norm_d="none", head_bias=None, input="colour", standardise="dataset",
    ),
    objective=dict(
        tau=0.8, score_factor=6.0, measure="jsd", assignment="soft", marginal="rematched",
        negatives="derangement", gradient_through_v=True,
    ),
    optimiser=OPTIMISER, scale="fixed", jitter=None, views="one", upsampling="labels",
    clusters_per_class=1, warm_up=None, mask=False,
)
TRUNK = HEAD | dict(sobel=True, width=0.05)
PATCH_PAIRS = TRUNK | dict(
    patch=5, head_width=8, dropout=0.5, pairs="batch", pairs_per_image=2, pixels_per_image=60,
    passes=5, optimiser=OPTIMISER,
)
CASES: dict[str, dict[str, Any]] = dict(
    random_cnn=TRUNK | dict(kind="random_cnn"),
    random_cnn_kmeans=TRUNK | dict(kind="random_cnn_kmeans", pixels_per_image=60, passes=5),
    kmeans=HEAD | dict(kind="kmeans", standardise=False, pixels_per_image=100, passes=10),
    doersch=PATCH_PAIRS | dict(kind="doersch", directions=9),
    isola=PATCH_PAIRS | dict(kind="isola"),
    iic=TRUNK | dict(
        kind="iic", clusters_a=6, weight_a=1.0, weight_b=1.5, displacement=2, turn=2,
        jitter=JITTER, flip=0.5, mask=True, optimiser=OPTIMISER | dict(flip=False),
    ),
    ac=HEAD | dict(
        kind="ac", width=0.06, blocks=2, norm=True, displacement=4, weight=1.5, resolution="input",
        arl_weight=0.0, arl_window=1, arl_features=6, optimiser=OPTIMISER,
    ),
    inmars=TRUNK | dict(
        kind="inmars", entropy_weight=4.0, weigh_by_area=False, noise_weight=10.0, epsilon=1.0,
        spatial_weight=10.0, shift=2.0, grid=3, xi=1.0, power_iterations=1, optimiser=OPTIMISER,
    ),
)
#: What differs from `INFOSEG`: in the objective, the network, the optimiser, elsewhere.
STOPPED = dict(gradient_through_v=False)
OBJECTIVES: dict[str, dict[str, Any]] = dict(
    dv_hard=dict(measure="dv", assignment="hard"), dv_soft=dict(measure="dv"),
    jsd_hard=dict(assignment="hard"), all_pairs=dict(negatives="all_pairs"),
    paired=dict(marginal="paired"), paired_stopped=dict(marginal="paired") | STOPPED,
    random_position=dict(marginal="random_position"),
    random_position_stopped=dict(marginal="random_position") | STOPPED,
    same_class=dict(marginal="same_class"),
    same_class_stopped=dict(marginal="same_class") | STOPPED, rematched_stopped=STOPPED,
    log_sum_exp=dict(marginal="log_sum_exp"), mean_k=dict(marginal="mean_k"),
    tau_02=dict(tau=0.2), tau_16=dict(tau=1.6), batch_8_dv=dict(measure="dv"),
)
NETWORKS = dict(
    block_a_cheap=dict(block_a="cheap"), block_a_dim=dict(block_a="dim"),
    norm_c_layer=dict(norm_c="layer"), norm_d_layer=dict(norm_d="layer"),
    norm_d_batch=dict(norm_d="batch"), without_block_c=dict(block_c="none"),
)
OPTIMISERS = dict(
    batch_8_dv=dict(batch=8), crop_16=dict(crop=16), averaged=dict(average=0.3),
)
OTHERS: dict[str, dict[str, Any]] = dict(
    iic_mi=dict(kind="iic_mi", displacement=2, weight=1.0, jitter=JITTER, flip=0.5),
    upsampling_scores=dict(upsampling="scores"), clusters_2=dict(clusters_per_class=2),
    single=dict(clusters_per_class=0),
)
# fmt: on
for name in ("infoseg", *OBJECTIVES, *NETWORKS, *OPTIMISERS, *OTHERS):
    CASES[name] = {
        **INFOSEG,
        "objective": INFOSEG["objective"] | OBJECTIVES.get(name, {}),
        "network": INFOSEG["network"] | NETWORKS.get(name, {}),
        "optimiser": OPTIMISER | OPTIMISERS.get(name, {}),
        **OTHERS.get(name, {}),
    }
for name in ("infoseg", "iic", "doersch"):
    CASES[f"{name}_infrared"] = CASES[name] | {k: False for k in ("sobel",) if k in CASES[name]}
for name in ("infoseg", "iic_mi", "iic", "ac", "inmars"):
    CASES[f"{name}_bfloat16"] = CASES[name]
CASES["iic_recomputed"] = CASES["iic"]
#: What differs from `TRAINING` in cases of these endings.
TRAININGS = {"bfloat16": {"precision": "bfloat16"}, "recomputed": {"recompute": True}}

# ---- what is recorded ----------------------------------------------------------------------------


def write_stores(folder: Path) -> dict[int, Prepared]:
    """Write what the cases are trained on, by the number of channels."""
    return {channels: write_store(folder / str(channels), channels) for channels in (3, 4)}


def compute(case: str, stores: dict[int, Prepared]) -> dict[str, dict[str, Any]]:
    """Train a case with every seed; return what is recorded of it, by case and seed."""
    prepared = stores[4 if case.endswith("infrared") else 3]
    training = TRAINING | TRAININGS.get(case.rpartition("_")[2], {})
    results = {}
    for seed in SEEDS:
        method, history, maps = run_training(CASES[case], prepared, seed, training)
        weights = hashlib.sha256()
        for name, value in sorted(method.state_dict().items()):
            weights.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            weights.update(value.contiguous().numpy().tobytes())
        thinned = zlib.compress(maps[:, ::2, ::2].tobytes(), 9)
        results[f"{case}, seed {seed}"] = {
            "losses": [row["loss"] for row in history if row["loss"] is not None],
            # What is evaluated before the first step is the same for all of them.
            "evaluations": [
                [row[name] for name in FIGURES]
                for row in history
                if "pa" in row and (row["step"] or len(history) == 1)
            ],
            "weights": weights.hexdigest(),
            "labels": hashlib.sha256(maps.tobytes()).hexdigest(),
            "thinned": base64.b64encode(thinned).decode(),
        }
    return results


def machine() -> dict[str, str | None]:
    """Return what the bytes depend on beside the code."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    lines = text.partition("\n\n")[0].splitlines()
    cpu = dict([part.strip() for part in line.split(":", 1)] for line in lines if ":" in line)
    return {
        **{name: cpu.get(name) for name in ("model name", "cpu family", "model")},
        "capability": torch.backends.cpu.get_cpu_capability(),
        **{name: version(name) for name in ("torch", "numpy", "scikit-learn")},
        **{name: os.environ.get(name) for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")},
    }


def differences(before: Record, after: Record) -> list[str]:
    """Return a line for each case and seed of both that moved, saying what did.

    Byte for byte where both were computed on machines of one kind; elsewhere nearly, and bfloat16
    not at all, whose losses come to differ by a tenth.
    """
    exactly = before["machine"] == after["machine"]
    lines = []
    for key, old in before["results"].items():
        new = after["results"].get(key)
        if new and (exactly or "bfloat16" not in key) and (found := _moved(old, new, exactly)):
            lines.append(f"{key}: {'; '.join(found)}")
    return lines


def _moved(old: Record, new: Record, exactly: bool) -> list[str]:
    found = []
    for step, (a, b) in enumerate(zip_longest(old["losses"], new["losses"]), 1):
        near = None not in (a, b) and abs(a - b) <= TOLERANCE * step * (1 + abs(a))
        if not (a == b if exactly else near):
            found.append(f"loss of step {step}, {a}, became {b}")
            break
    if exactly:
        others = ("evaluations", "weights", "labels")
        return found + [f"other {name}" for name in others if old[name] != new[name]]
    one, two = (zlib.decompress(base64.b64decode(result["thinned"])) for result in (old, new))
    share = sum(a == b for a, b in zip_longest(one, two)) / len(one)
    return found + [f"only {share:.1%} of the labels are the same"] * (share < AGREEMENT)


# ---- commands ------------------------------------------------------------------------------------


def computed(tree: Path, script: Path, *cases: str, **environment: str) -> Record:
    """Run `compute` of a script on the package of a tree, in a process of one thread."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = single | {"PYTHONPATH": str(tree), "TQDM_DISABLE": "1"} | environment
    command = [sys.executable, str(script), "compute", str(tree), *cases]
    done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def written(record: Record) -> str:
    """Return a record as JSON with a line for each case and seed."""
    results = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in record["results"].items())
    return f'{{"machine": {json.dumps(record["machine"])},\n"results": {{\n{results}\n}}}}\n'


def report(before: Record, after: Record) -> bool:
    """Print what moved and what only one side has; return whether anything moved."""
    lines = differences(before, after)
    for one, other, what in ((before, after, "was left out"), (after, before, "is new")):
        lost = one["results"].keys() - other["results"].keys()
        print(*(f"{key}: {what}" for key in sorted(lost)), sep="\n", end="\n" * bool(lost))
    common = before["results"].keys() & after["results"].keys()
    print(*lines, f"{len(lines)} of {len(common)} moved", sep="\n")
    return bool(lines)


def compare(commit: str) -> bool:
    """Compute a commit's results, by its own script if it has one; report what moved since."""

    def git(*words: str) -> bytes:
        return subprocess.run(["git", *words], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout

    name = git("rev-parse", "--verify", f"{commit}^{{commit}}").decode().strip()
    tree = ROOT / "build" / "golden" / name
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", str(tree)], input=git("archive", name), check=True)
    here, theirs = Path(__file__).resolve(), tree / "tests" / "golden.py"
    before = computed(tree, theirs if theirs.exists() else here)
    return report(before, computed(ROOT, here))


def main(command: str, *arguments: str) -> int:
    if command == "compare":
        return compare(*arguments)
    if command == "renew":
        record = computed(ROOT, Path(__file__).resolve())
        if RECORD.exists():
            report(json.loads(RECORD.read_text()), record)
        RECORD.write_text(written(record))
        return 0
    tree, *cases = arguments
    assert Path(infoseg.__file__).is_relative_to(tree), f"{infoseg.__file__} is not of {tree}"
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        stores = write_stores(Path(folder))
        for case in cases or CASES:
            results |= compute(case, stores)
    print(written({"machine": machine(), "results": results}), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
