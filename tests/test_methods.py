"""Every row of Table 1: what it computes, and that its weights survive a file."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from helpers import (
    CPU,
    TRAINED,
    build,
    card,
    data_info,
    method_settings,
    seeded,
    training,
    two_tone_images,
    write_prepared,
)
from safetensors.torch import load_file, save_file
from sklearn.cluster import MiniBatchKMeans
from torch.nn import functional as F

from infoseg.data.batches import DeviceData
from infoseg.evaluation import evaluate
from infoseg.files import DataError
from infoseg.methods import feature_clusters
from infoseg.methods.base import Method
from infoseg.methods.feature_clusters import NearestCentroid, fit_centroids, sample_pixels
from infoseg.methods.registry import METHODS
from infoseg.settings import JitterSettings, SuperpixelSettings
from infoseg.training import train
from infoseg.trunk import Head, Trunk
from infoseg.views import Views, append_sobel, colour_jitter
from infoseg.weights import WEIGHTS_FORMAT, load_weights, save_weights


def views(batch: int = 2, height: int = 32, width: int = 32, channels: int = 3, seed: int = 0):
    rng = seeded(seed)
    images = torch.rand(batch, channels, height, width, generator=rng)
    # Superpixels of 4 x 4 pixels.
    rows, columns = torch.arange(height) // 4, torch.arange(width) // 4
    regions = (rows[:, None] * (width // 4 + 1) + columns).expand(batch, -1, -1)
    return Views(images, regions=regions, region_count=int(regions.max()) + 1)


def fitted(kind: str, **changes) -> Method:
    """A method with weights that are its own: fitted where there is something to fit."""
    method = build(kind, **changes).eval()
    if kind in ("infoseg", "ac"):
        # Running statistics of real activations: with the initial ones, all pixels look alike.
        for module in method.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        method.train()
        with torch.no_grad():
            for _ in range(6):
                method.network(views(8, seed=6).images)
    method.eval().fit(iter([views(3, seed=5)]), 0)
    return method


# ---- the interface -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (45, 37)])
def test_every_method_labels_every_pixel(kind, channels, height, width):
    method = build(kind, data_info(5, channels)).eval()
    method.fit(iter([views(3, channels=channels)]), 0)
    seen = views(2, height, width, channels)
    assert method.clusters == 5
    with torch.no_grad():
        labels, entropy = method.segment_with_entropy(seen)
        assert torch.equal(method.segment(seen), labels)
    assert labels.shape == (2, height, width)
    assert labels.dtype == torch.int64
    assert 0 <= labels.min() <= labels.max() < 5
    assert (entropy is not None) == (not hasattr(method, "nearest"))
    assert entropy is None or (entropy.shape == (2,) and 0 <= entropy.min() <= entropy.max() <= 1)


@pytest.mark.parametrize("kind", ["kmeans", "random_cnn", "random_cnn_kmeans"])
def test_methods_without_an_objective_say_so(kind):
    method = build(kind)
    assert method.optimiser is None
    with pytest.raises(TypeError, match="is not optimised"):
        method.loss(views(), torch.Generator())


@pytest.mark.parametrize("kind", TRAINED)
def test_a_loss_follows_its_generator_alone(kind):
    losses = []
    for seed in (0, 0, 1):
        method = build(kind)
        torch.manual_seed(len(losses))
        losses.append(method.loss(views(4), seeded(seed)).item())
    assert losses[0] == losses[1]
    # InfoSeg draws nothing but, where asked to, colours.
    assert (losses[0] == losses[2]) == (kind == "infoseg")


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (4, 45, 37)])
def test_gradients_reach_every_weight_and_are_much_the_same_under_bfloat16(
    kind, channels, height, width
):
    gradients = []
    for autocast in (False, True):
        method = build(kind, data_info(4, channels)).train()
        for step in (1, 3):  # of either head of IIC
            method.begin_step(step)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = method.loss(views(4, height, width, channels), seeded())
            assert loss.dtype == torch.float32
            loss.backward()
        for name, weight in method.named_parameters():
            assert weight.grad.isfinite().all() and weight.grad.abs().sum() > 0, name
        gradients.append(torch.cat([weight.grad.flatten() for weight in method.parameters()]))
    # Adversaries are found by differences; IIC-MI's loss begins near its least value.
    least = 0.4 if kind in ("inmars", "iic_mi") else 0.9
    assert F.cosine_similarity(*gradients, dim=0) > least


def textures(count: int, size: int = 40) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A dark plain and bright stripes, divided at a random row or column."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for i in range(count):
        label = np.zeros((size, size), np.uint8)
        label[rng.integers(size // 3, 2 * size // 3) :] = 1
        label = label if i % 2 else label.T
        stripes = 50 * np.sign(np.sin(np.arange(size) * np.pi / 2 + 0.5))
        grey = 70 + label * (100 + stripes) + rng.normal(0, 10, label.shape)
        images.append(np.repeat(grey[..., None], 3, 2).clip(0, 255).astype(np.uint8))
        labels.append(label)
    return images, labels


GENTLE = {"noise_weight": 1.0, "epsilon": 0.5, "spatial_weight": 1.0, "shift": 1.0}


@pytest.mark.parametrize(
    ("kind", "draw", "least", "optimiser", "changes"),
    [
        ("iic", two_tone_images, 80, (60, 5e-3), {"sobel": False, "width": 0.1}),
        ("inmars", textures, 85, (30, 1e-2), GENTLE | {"width": 0.06}),
    ],
)
def test_training_separates_what_can_be_told_apart(tmp_path, kind, draw, least, optimiser, changes):
    grid = SuperpixelSettings(pixels_per_region=25, compactness=10, smoothing=0)
    prepared = write_prepared(tmp_path / "p", *draw(20), 2, superpixels=grid)
    how = {"steps": optimiser[0], "batch": 8, "learning_rate": optimiser[1]}
    method = build(kind, data_info(2), optimiser=how, **changes)
    data = DeviceData(prepared, 32, CPU, method.sees)

    def figures():
        return evaluate(method, data, 8, ["a", "b"])

    start, *_, end = train(method, data, training(evaluations=1), 0, figures).history
    assert end["pa"] > max(least, start["pa"] + 20)


# ---- InfoSeg -------------------------------------------------------------------------------------


def scores_by_hand(method, seen: Views) -> torch.Tensor:
    """<L_ij, H_k> position by position, (B, U, V, K)."""
    local, glob = method.network(seen.images)
    batch, _, rows, columns = local.shape
    scores = torch.zeros(batch, rows, columns, glob.shape[1])
    for b in range(batch):
        for i in range(rows):
            for j in range(columns):
                for k in range(glob.shape[1]):
                    scores[b, i, j, k] = method.objective.score_factor * (
                        local[b, :, i, j] @ glob[b, k]
                    )
    return scores


@torch.no_grad()
def test_infoseg_segments_by_equation_four_and_repeats_each_label_four_by_four():
    method, seen = fitted("infoseg"), views(2, 32, 40)
    low = scores_by_hand(method, seen).argmax(-1)
    assert len(low.unique()) == 3
    expected = low.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(method.segment(seen), expected)


@torch.no_grad()
def test_infoseg_can_interpolate_the_scores_before_the_arg_max():
    method, seen = fitted("infoseg", upsampling="scores"), views(2, 32, 40)
    scores = scores_by_hand(method, seen).permute(0, 3, 1, 2)
    expected = F.interpolate(scores, (32, 40), mode="bilinear").argmax(1)
    found = method.segment(seen)
    assert (found == expected).float().mean() > 0.999  # but for ties of rounding
    low = scores.argmax(1).repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert (found != low).float().mean() > 0.02


@torch.no_grad()
def test_the_entropy_is_that_of_equation_three_in_units_of_log_k():
    method, seen = fitted("infoseg"), views(3)
    scores = method.objective.tau * scores_by_hand(method, seen)
    V = torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True)
    expected = -(V * V.log()).sum(-1).mean((1, 2)) / math.log(3)
    _, found = method.segment_with_entropy(seen)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("factor", [1e-9, 1e6])
def test_the_entropy_runs_from_zero_to_one(factor):
    objective = method_settings("infoseg")["objective"] | {"score_factor": factor}
    method = fitted("infoseg", objective=objective)
    with torch.no_grad():
        _, found = method.segment_with_entropy(views(3))
    expected = 1.0 if factor < 1 else 0.0
    torch.testing.assert_close(found, torch.full((3,), expected), rtol=0, atol=1e-2)


@pytest.mark.parametrize("jitter", [None, JitterSettings().model_dump()])
def test_training_sees_crops_of_changed_colours_where_asked_to(jitter, monkeypatch):
    method, images = build("infoseg", jitter=jitter), views().images
    used, forward = [], method.network.forward
    monkeypatch.setattr(method.network, "forward", lambda x: used.append(x) or forward(x))
    method.loss(views(), seeded())
    changed = jitter and colour_jitter(images, method.jitter, seeded())
    assert len(used) == 1
    assert torch.equal(used[0], changed if jitter else images)
    assert torch.equal(used[0], images) == (jitter is None)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_block_b_has_as_many_convolutions_as_asked_for(layers):
    network = method_settings("infoseg")["network"] | {"layers_b": layers}
    method = build("infoseg", network=network)
    convolutions = [m for m in method.network.block_b.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == layers
    images = views(2, 64, 64).images
    assert method.network(images)[1].shape == (2, 3, 16)


# ---- K-Means -------------------------------------------------------------------------------------


def test_centroids_and_labels_equal_scikit_learns_on_raw_pixels():
    seen = views(4, 16, 16)
    method = build("kmeans", pixels_per_image=256).eval()
    method.fit(iter([seen]), 3)
    pixels = seen.images.permute(0, 2, 3, 1).reshape(-1, 3)
    drawn = sample_pixels(seen.images, None, 256, seeded(3)).numpy()
    # All pixels of every image, in another order.
    assert np.array_equal(np.unique(drawn, axis=0), np.unique(pixels.numpy(), axis=0))
    reference = MiniBatchKMeans(3, max_iter=10, batch_size=4096, n_init=3, random_state=3)
    reference.fit(drawn)
    np.testing.assert_array_equal(method.nearest.centroids.numpy(), reference.cluster_centers_)
    expected = reference.predict(pixels.numpy()).reshape(4, 16, 16)
    assert np.array_equal(method.segment(seen).numpy(), expected)


def test_standardised_k_means_divides_each_channel_by_its_deviation():
    info = data_info(3)
    plain, scaled = (build("kmeans", info, standardise=on).eval() for on in (False, True))
    seen = views(3, 16, 16)
    plain.fit(iter([Views(seen.images / 0.2)]), 0)
    scaled.fit(iter([seen]), 0)
    torch.testing.assert_close(plain.nearest.centroids, scaled.nearest.centroids)


def test_the_nearest_centroid_is_that_of_interpolated_features():
    nearest = NearestCentroid(7, 5)
    nearest.centroids.copy_(torch.randn(7, 5, generator=seeded()))
    features = torch.randn(2, 5, 9, 6, generator=seeded(1))
    size = torch.Size((32, 21))
    up = F.interpolate(features.double(), size, mode="bilinear", align_corners=False)
    distances = torch.cdist(up.permute(0, 2, 3, 1).flatten(0, 2), nearest.centroids.double())
    expected = distances.argmin(1).view(2, 32, 21)
    assert torch.equal(nearest(features, size), expected)


def test_the_nearest_centroid_is_exact_under_autocast():
    nearest = NearestCentroid(3, 2)
    # Centroids that bfloat16 cannot tell apart.
    nearest.centroids.copy_(torch.tensor([[0.5, 0.5], [0.5005, 0.5], [0.5, 0.5005]]))
    features = nearest.centroids.T[None, :, None, :].contiguous()
    with torch.autocast("cpu", torch.bfloat16):
        found = nearest(features, features.shape[-2:])
    assert found.flatten().tolist() == [0, 1, 2]


def test_drawn_pixels_are_different_ones_of_the_mask_the_same_number_per_image():
    batch, n = 3, 64
    features = torch.arange(batch * n, dtype=torch.float32).view(batch, 1, 8, 8)
    mask = torch.zeros(batch, 8, 8, dtype=torch.bool)
    mask[0, :4], mask[1, 0, :3] = True, True  # 32 pixels, 3 pixels, none
    rows = sample_pixels(features, mask, 10, seeded())[:, 0].long()
    assert len(set(rows.tolist())) == len(rows) == 13
    assert mask.flatten()[rows].all()
    assert (rows // n).bincount(minlength=3).tolist() == [10, 3, 0]
    everything = sample_pixels(features, None, 1000, seeded())
    assert sorted(everything[:, 0].long().tolist()) == list(range(batch * n))


def test_drawing_follows_the_seed_and_is_uniform():
    features = torch.arange(16.0).view(1, 1, 4, 4).expand(3000, -1, -1, -1)

    def draw(seed: int) -> torch.Tensor:
        return sample_pixels(features, None, 4, seeded(seed))[:, 0]

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    share = draw(0).long().bincount(minlength=16) / 3000
    assert ((share - 0.25).abs() < 0.04).all()


def test_too_few_pixels_for_the_clusters_is_an_error():
    with pytest.raises(ValueError, match="2 pixels for 3 clusters"):
        fit_centroids(np.zeros((2, 3), np.float32), 3, 5, 0)


# ---- Random CNN ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random_cnn", "random_cnn_kmeans"])
def test_a_random_network_is_the_same_for_the_same_seed(kind):
    states = []
    for seed in (0, 0, 1):
        method = build(kind, seed=seed).eval()
        method.fit(iter([views(3)]), seed)
        states.append(method)
    one, same, other = (method.segment(views()) for method in states)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("size", "expected"), [(128, 60), (200, 96), (45, 18)])
def test_the_trunk_halves_the_size_and_loses_four_pixels(size, expected):
    trunk = Trunk(4, 0.02, sobel=False).eval()
    with torch.no_grad():
        found = trunk(torch.zeros(1, 4, size, size))
    assert found.shape == (1, trunk.features, expected, expected)


def test_recomputed_activations_change_neither_gradients_nor_running_statistics():
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        trunk = Trunk(3, 0.05, sobel=True).train()
        trunk.recompute = recompute
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x
        ):
            out = trunk(views(2, 32, 32).images)
        out.square().mean().backward()
        state = {k: v for k, v in trunk.state_dict().items() if "num_batches" not in k}
        found.append((out, [p.grad for p in trunk.parameters()], state, sum(kept)))
    plain, again = found
    assert torch.equal(plain[0], again[0])
    assert all(torch.equal(a, b) for a, b in zip(plain[1], again[1], strict=True))
    assert all(torch.equal(value, again[2][name]) for name, value in plain[2].items())
    assert again[3] < 0.7 * plain[3]


def test_the_head_interpolates_probabilities_and_not_logits():
    torch.manual_seed(0)
    head, features = Head(6, 3), 3 * torch.randn(1, 6, 5, 5)
    with torch.no_grad():
        found = head(features, torch.Size((12, 12)))
        logits = F.conv2d(features, head.conv.weight, padding=1)
        expected = F.interpolate(logits.softmax(1), (12, 12), mode="bilinear")
    assert logits.shape[-1] == 7
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(1), torch.ones(1, 12, 12))


def test_sobel_channels_reach_the_trunk_only_when_asked_for():
    seen = views(1, 20, 20)
    for sobel, channels in ((True, 5), (False, 3)):
        method = build("random_cnn", sobel=sobel).eval()
        assert method.trunk.layers[0].in_channels == channels
        given = append_sobel(seen.images) if sobel else seen.images
        with torch.no_grad():
            features = method.trunk.layers(given)
            expected = method.head(features, torch.Size((20, 20))).argmax(1)
            assert torch.equal(method.segment(seen), expected)


@pytest.mark.parametrize("kind", ["kmeans", "random_cnn_kmeans"])
def test_pixels_that_are_not_annotated_are_never_drawn(monkeypatch, kind):
    # Annotated on the left, not annotated on the right, which is all white.
    images = torch.rand(2, 3, 32, 32, generator=seeded()) * 0.5
    images[..., 16:] = 1.0
    mask = torch.zeros(2, 32, 32, dtype=torch.bool)
    mask[..., :16] = True
    method = build(kind).eval()
    seen: list[np.ndarray] = []

    def spy(rows, clusters, passes, seed):
        seen.append(rows)
        return fit_centroids(rows, clusters, passes, seed)

    monkeypatch.setattr(feature_clusters, "fit_centroids", spy)
    method.fit(iter([Views(images, mask)]), 0)
    with torch.no_grad():
        features = method.features(images)
    half = features.shape[-1] // 2
    left, right = (
        {tuple(row) for row in part.permute(0, 2, 3, 1).flatten(0, 2).tolist()}
        for part in (features[..., :half], features[..., half:])
    )
    drawn = {tuple(row) for row in seen[0].tolist()}
    assert len(seen[0]) == 2 * method.pixels_per_image
    assert drawn <= left
    assert not drawn & (right - left)
    # Without the mask the right half is drawn from as well.
    method.fit(iter([Views(images)]), 0)
    assert {tuple(row) for row in seen[1].tolist()} & (right - left)


# ---- weights on disk -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_weights_give_the_same_segmentation_after_a_file(tmp_path, kind, layout):
    method = fitted(kind).to(memory_format=layout)
    path = tmp_path / "run" / "weights.safetensors"
    save_weights(path, method.state_dict(), card(kind))
    found, loaded = load_weights(path, CPU)
    assert loaded == card(kind)
    assert type(found) is type(method)
    assert not found.training
    for name, value in method.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    with torch.no_grad():
        seen = views(2, 45, 37)
        assert len(method.segment(seen).unique()) > 1
        assert torch.equal(found.to(memory_format=layout).segment(seen), method.segment(seen))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def saved(tmp_path, **changes):
    path = tmp_path / "weights.safetensors"
    save_weights(path, fitted("kmeans").state_dict(), card("kmeans", **changes))
    return path


def with_card(change):
    """Damage that rewrites the file with a changed card."""

    def damage(path):
        content = json.loads(card("kmeans").model_dump_json())
        content["settings"] |= change
        save_file(load_file(path), path, {"infoseg": json.dumps(content)})

    return damage


def with_centroids(centroids):
    def damage(path):
        tensors = load_file(path) | {"nearest.centroids": centroids}
        kept = {name: value for name, value in tensors.items() if value is not None}
        save_file(kept, path, {"infoseg": card("kmeans").model_dump_json()})

    return damage


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not weights at all, whatever the name says"),
    "another program's": lambda path: save_file(load_file(path), path),
    "missing tensor": with_centroids(None),
    "another shape": with_centroids(torch.zeros(4, 3)),
    "half a card": lambda path: save_file(load_file(path), path, {"infoseg": '{"format": 1}'}),
    "unknown method": with_card({"kind": "oracle"}),
    "unknown setting": with_card({"colour": "red"}),
    "deleted": lambda path: path.unlink(),
    "diverged": lambda path: save_weights(path, {}, card("kmeans", diverged="at step 3")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_is_not_whole_or_not_ours_is_an_error_naming_it(tmp_path, damage):
    path = saved(tmp_path)
    load_weights(path, CPU)
    damage(path)
    with pytest.raises(DataError) as caught:
        load_weights(path, CPU)
    assert caught.value.file == path
    assert str(path) in str(caught.value)


def test_another_format_of_weights_is_an_error_naming_both(tmp_path):
    path = saved(tmp_path, format=WEIGHTS_FORMAT + 1)
    with pytest.raises(DataError, match=f"format {WEIGHTS_FORMAT + 1}.*reads {WEIGHTS_FORMAT}"):
        load_weights(path, CPU)


def test_a_failed_write_leaves_the_old_weights_alone(tmp_path, monkeypatch):
    path = saved(tmp_path)
    before = path.read_bytes()

    def fail(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("infoseg.weights.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_weights(path, {}, card("kmeans"))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
