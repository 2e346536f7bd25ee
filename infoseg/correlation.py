"""Sums of products of two stacks of class maps at every displacement, fast and in bounded memory.

The joint distributions of IIC's local loss (Ji et al. 2019) are such sums. Two exact forms:

`dft`   Correlations are products in Fourier space. The maps are transformed by multiplication with
        small matrices of sines and cosines, because a matrix product reads and writes the layouts
        that its neighbours want, where an FFT's output must be transposed; and because of all the
        displacements only (2T+1)^2 are wanted, so that the way back is a small matrix as well.
`conv`  What a convolution layer computes as the gradient of its (2T+1) x (2T+1) weights.

A joint is linear in each input, so its gradients are sums of the same kind, in the same form; only
the inputs are kept for them. On CUDA, whether TF32 may be used is up to PyTorch's own switches:
`torch.backends.cuda.matmul` for `dft`, off by default, `torch.backends.cudnn` for `conv`, on.
"""

from __future__ import annotations

import math
from itertools import repeat
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Form = Literal["auto", "dft", "conv"]

#: Bytes of half-transformed maps held at once: a batch is summed in chunks of so many images.
CHUNK_BYTES = 2**30
#: Bytes of spectra held at once: a few rows of frequencies, that a processor's cache can hold.
BLOCK_BYTES = 2**23


def displaced_joint(
    first: Tensor, second: Tensor, displacement: int, form: Form = "auto"
) -> Tensor:
    """J[T+dy, T+dx, k, l] = sum over b, y, x of first[b, k, y, x] * second[b, l, y+dy, x+dx].

    first (B, K, H, W), second (B, L, H, W), zero outside the image; displacement T in pixels.
    Returns (2T+1, 2T+1, K, L): float64 if an input is, else float32, also under autocast. The
    published code's F.conv2d(first, second), images as channels, is J at (-dy, -dx): an order that
    no sum over all displacements can tell. Raises ValueError for other shapes, T < 0, other forms.
    """
    if first.dim() != 4 or second.dim() != 4 or first[:, 0].shape != second[:, 0].shape:
        raise ValueError(
            f"two stacks of maps (B, K, H, W) that differ in K alone are needed, "
            f"not {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if displacement < 0:
        raise ValueError(f"displacement is {displacement} pixels, at least 0")
    if form == "auto":
        form = choose_form(displacement)
    if form not in FORMS:
        raise ValueError(f"form is {form!r}, one of auto, {', '.join(FORMS)}")
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    with torch.autocast(first.device.type, enabled=False):
        return _apply(first.to(dtype), second.to(dtype), displacement, form)


def choose_form(displacement: int) -> Form:
    """The faster form: `conv` takes time in (2T+1)^2, `dft` hardly depends on T."""
    # Measured forward and backward on one AVX-512 core, K = 3 to 45, 40 to 200 px: at T = 2 `conv`
    # takes 0.4 to 1.4 times as long as `dft`, at T = 3 0.8 to 1.5 times, at T = 4 1.2 to 2.3 times.
    return "conv" if displacement <= 2 else "dft"


class _DisplacedJoint(torch.autograd.Function):
    """Sums over chunks of the batch; `FORMS` has the joint of a chunk, and its gradients."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, displacement: int, form: str) -> Tensor:
        ctx.save_for_backward(first, second)
        ctx.form = form
        joint, _ = FORMS[form]
        size = _chunk(first, second, displacement)
        pairs = zip(first.split(size), second.split(size), strict=True)
        return sum(joint(f, g, displacement) for f, g in pairs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        _, gradients = FORMS[ctx.form]
        first, second = ctx.saved_tensors
        size = _chunk(first, second, len(gradient) // 2)
        pairs = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        found = [x.new_empty(x.shape) if needed else None for x, needed in pairs]
        into = (repeat(None) if x is None else x.split(size) for x in found)
        for f, g, into_f, into_g in zip(first.split(size), second.split(size), *into, strict=False):
            gradients(f, g, gradient, into_f, into_g)
        return *found, None, None


_apply = _DisplacedJoint.apply


def leave_uncompiled() -> None:
    """Have torch.compile leave the joint as it is: blocks that fit the cache are all the fusion
    there is. A call, because `torch.compiler.disable` as a decorator loads the compiler for
    everyone, two seconds of every start."""
    global _apply
    _apply = torch.compiler.disable(_DisplacedJoint.apply)


def _chunk(first: Tensor, second: Tensor, displacement: int) -> int:
    """How many images at a time."""
    classes = first.shape[1] + second.shape[1]
    image = classes * (first.shape[2] + displacement + 1) * first.shape[3] * first.element_size()
    return max(1, CHUNK_BYTES // image)


# ---- conv ----------------------------------------------------------------------------------------


def _conv_joint(first: Tensor, second: Tensor, displacement: int) -> Tensor:
    side = 2 * displacement + 1
    shape = (first.shape[1], second.shape[1], side, side)
    joint = torch.nn.grad.conv2d_weight(second, shape, first, padding=displacement)
    return joint.permute(2, 3, 0, 1)


def _conv_gradients(
    first: Tensor, second: Tensor, gradient: Tensor, into_f: Tensor | None, into_g: Tensor | None
) -> None:
    weight, padding = gradient.permute(2, 3, 0, 1), len(gradient) // 2
    if into_f is not None:
        into_f.copy_(F.conv2d(second, weight, padding=padding))
    if into_g is not None:
        into_g.copy_(F.conv_transpose2d(first, weight, padding=padding))


# ---- dft -----------------------------------------------------------------------------------------


class _Transforms:
    """Images (H, W) to frequencies, and frequencies to displacements, as real matrices.

    p, q: numbers of frequencies down and across, too many for a displacement to reach round to the
    opposite side. They are half integers, and so come in conjugate pairs without exception: of
    those down, half are enough (p is even). Real and imaginary parts are stacked, as "2" below.

    down (p, H): the columns of an image → (p/2, 2), its frequencies down.
    across (2q, 2W): rows (2, W), complex by then → (q, 2), their frequencies across.
    back_real, back_imaginary (2D, q): the parts of q frequencies → (2, D), what they are at the
        D = 2T+1 displacements dx.
    back_up (D, p/2, 2): frequencies down → real numbers at the displacements dy.
    """

    def __init__(self, like: Tensor, displacement: int):
        height, width = like.shape[2:]
        self.p, self.q = height + displacement, width + displacement
        self.p += self.p % 2

        def waves(count: int, period: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
            """Cosine and sine (count, stop - start), in float64 until the angles are taken."""
            places = torch.arange(start, stop, device=like.device, dtype=torch.float64)
            frequencies = torch.arange(count, device=like.device, dtype=torch.float64) + 0.5
            angles = 2 * math.pi / period * torch.outer(frequencies, places)
            return angles.cos().to(like), angles.sin().to(like)

        cos, sin = waves(self.p // 2, self.p, 0, height)
        self.down = torch.stack([cos, -sin], 1).flatten(0, 1)
        cos, sin = waves(self.q, self.q, 0, width)
        pairs = torch.stack([cos, sin, -sin, cos], 1).unflatten(1, (2, 2))
        self.across = pairs.flatten(2).flatten(0, 1)
        moves = (-displacement, displacement + 1)
        cos, sin = (x.T for x in waves(self.q, self.q, *moves))
        self.back_real, self.back_imaginary = torch.cat([cos, sin]), torch.cat([-sin, cos])
        cos, sin = (x.T for x in waves(self.p // 2, self.p, *moves))
        self.back_up = torch.stack([cos, -sin], 2).mul(2 / (self.p * self.q))

    def blocks(self, first: Tensor, second: Tensor) -> list[slice]:
        """Frequencies down, so many at a time that their spectra take about BLOCK_BYTES."""
        classes = (first.shape[1], second.shape[1])
        row = 2 * self.q * (math.prod(classes) + len(first) * sum(classes)) * first.element_size()
        size = max(1, BLOCK_BYTES // row)
        return [slice(start, start + size) for start in range(0, self.p // 2, size)]

    def halfway(self, maps: Tensor) -> Tensor:
        """(B, K, H, W) → (BK, p/2, 2W): transformed down, not yet across."""
        return (self.down @ maps.flatten(0, 1)).unflatten(1, (-1, 2)).flatten(2)

    def halfway_adjoint(self, halfway: Tensor, maps: Tensor) -> None:
        """Writes the gradient of `maps` from that of `halfway`."""
        halfway = halfway.view(len(halfway), self.p, -1)
        torch.matmul(self.down.T, halfway, out=maps.flatten(0, 1))

    def spectra(self, halfway: Tensor, batch: int) -> Tensor:
        """(BK, n, 2W) → (nq, 2B, K): a matrix at every frequency, real over imaginary parts."""
        spectra = self.across @ halfway.permute(1, 2, 0)
        return spectra.view(-1, 2 * batch, len(halfway) // batch)

    def spectra_adjoint(self, spectra: Tensor, halfway: Tensor) -> None:
        """Writes the gradient of `halfway` from that of `spectra`."""
        spectra = spectra.view(halfway.shape[1], 2 * self.q, len(halfway))
        halfway.copy_((spectra.mT @ self.across).transpose(0, 1))


def _times_i(z: Tensor) -> Tensor:
    """i z of complex matrices (n, 2B, K), real over imaginary parts."""
    real, imaginary = z.chunk(2, dim=1)
    return torch.cat([-imaginary, real], 1)


def _dft_joint(first: Tensor, second: Tensor, displacement: int) -> Tensor:
    t = _Transforms(first, displacement)
    side, classes = 2 * displacement + 1, (first.shape[1], second.shape[1])
    joint = first.new_zeros(side, side * math.prod(classes))
    halfway = t.halfway(first), t.halfway(second)
    for block in t.blocks(first, second):
        f, g = (t.spectra(x[:, block], len(first)) for x in halfway)
        # The product conj(f) g, summed over the images.
        real, imaginary = torch.bmm(f.mT, g), torch.bmm(_times_i(f).mT, g)
        moved = t.back_real @ real.view(-1, t.q, math.prod(classes))
        moved += t.back_imaginary @ imaginary.view(-1, t.q, math.prod(classes))
        joint.addmm_(t.back_up[:, block].flatten(1), moved.view(-1, joint.shape[1]))
    return joint.view(side, side, *classes)


def _dft_gradients(
    first: Tensor, second: Tensor, gradient: Tensor, into_f: Tensor | None, into_g: Tensor | None
) -> None:
    """The adjoint of every line of `_dft_joint`, last line first."""
    side, classes = len(gradient), gradient.shape[2:]
    t = _Transforms(first, side // 2)
    halfway = t.halfway(first), t.halfway(second)
    for block in t.blocks(first, second):
        f, g = (t.spectra(x[:, block], len(first)) for x in halfway)
        moved = t.back_up[:, block].flatten(1).T @ gradient.reshape(side, -1)
        moved = moved.view(-1, 2 * side, math.prod(classes))
        real = (t.back_real.T @ moved).view(-1, *classes)
        imaginary = (t.back_imaginary.T @ moved).view(-1, *classes)
        # A block halfway is not read again: its gradient takes its place.
        if into_f is not None:
            spectra = torch.bmm(g, real.mT).baddbmm_(_times_i(g), imaginary.mT, alpha=-1)
            t.spectra_adjoint(spectra, halfway[0][:, block])
        if into_g is not None:
            spectra = torch.bmm(f, real).baddbmm_(_times_i(f), imaginary)
            t.spectra_adjoint(spectra, halfway[1][:, block])
    for x, into in zip(halfway, (into_f, into_g), strict=True):
        if into is not None:
            t.halfway_adjoint(x, into)


#: The joint of a chunk of images, and what writes its gradients.
FORMS = {"dft": (_dft_joint, _dft_gradients), "conv": (_conv_joint, _conv_gradients)}
