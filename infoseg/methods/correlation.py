"""Sums of products of two stacks of class maps at every displacement, as matrix products.

The joint distributions of IIC's local loss (Ji et al. 2019) are such sums. A correlation is a
product in Fourier space. The maps are transformed by small matrices of cosines and sines, because a
matrix product writes the layout that the next one reads, where an FFT's output must be transposed;
and because only (2T+1)^2 displacements are wanted, so that the inverse is a small matrix as well.
The cost hardly depends on T. On CUDA, whether TF32 may be used is up to PyTorch's own switch,
`torch.backends.cuda.matmul`, off by default.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Bytes of spectra made at once, so that a processor's cache can hold them.
BLOCK_BYTES = 2**23


def displaced_joint(first: Tensor, second: Tensor, displacement: int) -> Tensor:
    """J[T+dy, T+dx, k, l] = sum over b, y, x of first[b, k, y, x] * second[b, l, y+dy, x+dx].

    first, second (B, K, H, W): zero outside the image. displacement: T >= 0 in pixels. Returns
    (2T+1, 2T+1, K, K): float64 if an input is, else float32, also under autocast. The published
    code's F.conv2d(first, second), images as channels, is J at (-dy, -dx): an order that no sum
    over all displacements can tell.
    """
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    with torch.autocast(first.device.type, enabled=False):
        return _joint(first.to(dtype), second.to(dtype), displacement)


def _joint(first: Tensor, second: Tensor, displacement: int) -> Tensor:
    batch, classes, height, width = first.shape
    side = 2 * displacement + 1
    # Periods so long that no displacement reaches round to the opposite side. Frequencies are half
    # integers, so they come in conjugate pairs without exception: half of those down are enough.
    p, q = height + displacement, width + displacement
    p += p % 2
    rows, columns, moves = (
        torch.arange(start, stop, dtype=torch.float64, device=first.device)
        for start, stop in ((0, height), (0, width), (-displacement, displacement + 1))
    )

    # Real matrices; real and imaginary parts are stacked, as "2" in the shapes.
    cos, sin = _waves(p, p // 2, rows, first)
    down = torch.stack([cos, -sin], 1).flatten(0, 1)  # (p, H): a column to (p/2, 2) frequencies
    cos, sin = _waves(q, q, columns, first)
    across = torch.stack([cos, sin, -sin, cos], 1).unflatten(1, (2, 2))
    across = across.flatten(2).flatten(0, 1)  # (2q, 2W): a row, complex by now, to (q, 2)

    cos, sin = _waves(q, q, moves, first)
    back = torch.cat([cos, sin], 1).T, torch.cat([-sin, cos], 1).T  # each (2 * side, q)
    cos, sin = _waves(p, p // 2, moves, first)
    up = torch.stack([cos, -sin]).permute(2, 1, 0) * (2 / (p * q))  # (side, p/2, 2)

    def halfway(maps: Tensor) -> Tensor:
        """(B, K, H, W) → (BK, p/2, 2W): transformed down, not yet across."""
        return (down @ maps.flatten(0, 1)).unflatten(1, (-1, 2)).flatten(2)

    def spectra(halfway: Tensor) -> Tensor:
        """(BK, n, 2W) → (nq, 2B, K): a matrix at every frequency."""
        return (across @ halfway.permute(1, 2, 0)).view(-1, 2 * batch, classes)

    row = 2 * q * (classes**2 + 2 * batch * classes) * first.element_size()
    rows_at_once = max(1, BLOCK_BYTES // row)
    blocks = (x.split(rows_at_once, 1) for x in (halfway(first), halfway(second), up))
    joint = first.new_zeros(side, side * classes**2)
    for f, g, up_block in zip(*blocks, strict=True):
        f, g = spectra(f), spectra(g)
        real, imaginary = f.chunk(2, dim=1)
        # The product conj(f) g, summed over the images; its imaginary part is i f times g.
        products = torch.bmm(f.mT, g), torch.bmm(torch.cat([-imaginary, real], 1).mT, g)
        real, imaginary = (x.view(-1, q, classes**2) for x in products)
        moved = back[0] @ real + back[1] @ imaginary  # (n, 2 * side, KK)
        joint = joint + up_block.flatten(1) @ moved.view(-1, joint.shape[1])
    return joint.view(side, side, classes, classes)


def _waves(period: int, count: int, places: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine, (count, places), of `count` frequencies; angles are taken in float64."""
    frequencies = torch.arange(count, dtype=places.dtype, device=places.device) + 0.5
    angles = 2 * math.pi / period * torch.outer(frequencies, places)
    return angles.cos().to(like), angles.sin().to(like)
