"""Pictures of any size through a trained method, in overlapping tiles that share H.

Block B ends in an average over all positions, and the average over a picture is the average over
its tiles. So a first pass takes H of the whole picture, and a second scores every tile's L against
it. Tiles overlap by what a position sees: the labels are those of the picture in one piece. With an
H each, neighbouring tiles of aerial pictures disagreed on 18 % of the pixels that both see.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import chain, product

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from infoseg.losses import class_scores
from infoseg.methods.base import Method
from infoseg.methods.infoseg import InfoSeg
from infoseg.views import Views

#: Side of a tile, and what is seen around it on every side, in pixels.
TILE, MARGIN = 512, 64
#: Side up to which a picture is one piece.
LARGEST = TILE + 2 * MARGIN


def tile_maps(
    function: Callable[[Tensor], Tensor], picture: Tensor, stride: int, tile: int, margin: int
) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Yield the rows and columns of every tile in the map of a picture, and the map there.

    function: images (1, C, h, w) of a tile with its margins → (..., h // stride, w // stride).
    """
    corners = list(product(*(range(0, n - stride + 1, tile) for n in picture.shape[1:])))
    for top, left in tqdm(corners, unit="tile", leave=False, delay=2):
        y, x = max(0, top - margin), max(0, left - margin)
        window = picture[None, :, y : top + tile + margin, x : left + tile + margin]
        own = function(window.float() / 255)[..., (top - y) // stride :, (left - x) // stride :]
        rows, columns = (slice(start // stride, (start + tile) // stride) for start in (top, left))
        yield (rows, columns), own[..., : tile // stride, : tile // stride]


@torch.no_grad()
def segment_tiled(method: Method, picture: Tensor, tile: int = TILE) -> np.ndarray:
    """Clusters of a picture, (C, H, W) uint8 → (H, W) uint8. Not for methods with superpixels."""
    size = picture.shape[1:]
    if isinstance(method, InfoSeg):
        scores = infoseg_scores(method, picture, tile)
        if method.upsampling == "scores":
            return enlarged(scores, size).argmax(0).byte().numpy()
        return repeated(scores.argmax(0).byte(), size).numpy()
    picture, labels = picture.to(device_of(method)), torch.empty(size, dtype=torch.uint8)
    tile = tile if max(size) > tile + 2 * MARGIN else max(size)
    for place, own in tile_maps(lambda x: method.segment(Views(x)), picture, 1, tile, MARGIN):
        labels[place] = own[0]
    return labels.numpy()


@torch.no_grad()
def infoseg_scores(method: InfoSeg, picture: Tensor, tile: int = TILE) -> Tensor:
    """Class scores <L_ij, H_k> of a picture, (C, H, W) uint8 → (K, U, V) float32 on the CPU."""
    network, (height, width) = method.network, picture.shape[1:]
    picture = picture.to(device_of(method))
    if max(height, width) <= tile + 2 * MARGIN:
        return method.scores(picture[None].float() / 255)[0].float().cpu()
    if network.standardise == "image":  # by the statistics of the picture, not of every tile
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())
        statistics = cv2.meanStdDev(pixels)
        mean, std = (torch.from_numpy(x[:, 0] / 255).to(network.mean) for x in statistics)
        network = copy.copy(network)
        network.standardise, network._buffers = "dataset", {"mean": mean, "std": std + 1 / 255}
    block_a, block_b = network.block_a, network.block_b[0]  # B without its average
    # Pixels between block B's positions; one of them sees `step` + 6 pixels beyond at most.
    stride, step = network.stride, network.stride * 2 ** (len(block_b) // 3)
    cut = max(tile, step), 2 * step
    parts = tile_maps(lambda x: block_b(block_a(network._input(x))), picture, step, *cut)
    total = sum(own.double().sum((2, 3), keepdim=True) for _, own in parts)
    mean = (total / ((height // step) * (width // step))).to(network.mean.dtype)
    glob = network.block_d(network.norm_d(network.block_c_global(mean)).flatten(1))
    scores = torch.empty(method.clusters, height // stride, width // stride)
    for place, own in tile_maps(lambda x: block_a(network._input(x)), picture, stride, *cut):
        local = network.block_c_local(own).flatten(2)
        part = class_scores(local, glob, method.objective.score_factor)
        scores[:, *place] = part[0].unflatten(-1, own.shape[2:])
    return scores


def device_of(method: Method) -> torch.device:
    """Where a method's weights are; the CPU for one that has none."""
    return next(chain(method.parameters(), method.buffers()), torch.empty(0)).device


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (K, U, V) at another size (H, W), bilinear: (K, H, W)."""
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def repeated(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (U, V) uint8 at another size (H, W), nearest neighbour: (H, W)."""
    return F.interpolate(labels[None, None], size, mode="nearest")[0, 0]


def as_tensor(picture: np.ndarray) -> Tensor:
    """(H, W, C) uint8 → (C, H, W) uint8, copied where it is read-only."""
    return torch.from_numpy(np.require(picture, requirements="CW")).permute(2, 0, 1)
