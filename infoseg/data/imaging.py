"""Reading pictures strictly and rescaling them the way the published code does.

Every reader raises DataError naming the file, for anything that is not a complete 8-bit picture.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError

from infoseg.errors import DataError

_RGB_SOURCES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
"""Pillow modes with at most 8 bits per channel; converting the others to RGB would clip them."""

_REPLACE = "Replace the file by an intact copy, or prepare with on_bad_input=skip to leave it out"


def _open(file: Path) -> Image.Image:
    try:
        picture = Image.open(file)
        picture.load()
    except FileNotFoundError:
        raise DataError("not found", file=file, advice=_REPLACE) from None
    except UnidentifiedImageError:
        raise DataError(
            "is not a picture in a format Pillow reads", file=file, advice=_REPLACE
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot be decoded ({error})", file=file, advice=_REPLACE) from None
    return picture


def read_rgb(file: Path, *, upright: bool = False) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB; greyscale, palette and CMYK are converted.

    upright: apply the EXIF orientation. Off for COCO, whose label maps and polygons refer to the
    pixels as stored. Alpha is dropped. Raises DataError for more than 8 bits per channel.
    """
    picture = _open(file)
    if picture.mode not in _RGB_SOURCES:
        raise DataError(
            f"has pixels of type {picture.mode!r}, more than 8 bits per channel",
            file=file,
            advice="Convert it to 8 bits first",
        )
    if upright:
        picture = ImageOps.exif_transpose(picture)
    return np.asarray(picture.convert("RGB"))


def read_labels(file: Path) -> np.ndarray:
    """Read an 8-bit greyscale or palette PNG as (H, W) uint8: the stored indices, not colours."""
    picture = _open(file)
    if picture.mode not in {"L", "P"}:
        raise DataError(
            f"has pixels of type {picture.mode!r}; labels are 8-bit greyscale or palette indices",
            file=file,
            advice="Convert it to an 8-bit PNG whose pixel values are class numbers",
        )
    return np.asarray(picture)


def read_tiff(file: Path, channels: int) -> np.ndarray:
    """Read an 8-bit TIFF of ``channels`` bands as (H, W, channels) uint8, interleaved or planar."""
    try:
        pixels = tifffile.imread(file)
    except FileNotFoundError:
        raise DataError("not found", file=file, advice=_REPLACE) from None
    # A damaged TIFF fails in many ways: its own errors, struct, zlib, numpy, missing codecs.
    except Exception as error:
        raise DataError(f"cannot be decoded ({error})", file=file, advice=_REPLACE) from None
    if pixels.ndim == 3 and pixels.shape[2] != channels and pixels.shape[0] == channels:
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim != 3 or pixels.shape[2] != channels or pixels.dtype != np.uint8:
        raise DataError(
            f"has shape {pixels.shape} and type {pixels.dtype} instead of {channels} bands uint8",
            file=file,
            advice=_REPLACE,
        )
    return np.ascontiguousarray(pixels)


def check_same_size(labels: np.ndarray, image: np.ndarray, file: Path) -> None:
    """Raise DataError naming the label file unless both have the same height and width."""
    if labels.shape[:2] != image.shape[:2]:
        raise DataError(
            f"is {labels.shape[1]} x {labels.shape[0]} pixels, "
            f"its image is {image.shape[1]} x {image.shape[0]}",
            file=file,
            advice=_REPLACE,
        )


def rescale_iic(image: np.ndarray, scale: float) -> np.ndarray:
    """Rescale a (H, W, C) uint8 image by ``scale`` as IIC's training code does; uint8.

    Bilinear without antialiasing (cv2 INTER_LINEAR with fx = fy = scale), so below one half some
    source pixels have no weight at all: another resize gives other pictures. In float32, then
    *truncated* to uint8 as IIC does before colour jitter; IIC's test path keeps the fraction, a
    difference below one grey level. The result is round(H * scale) x round(W * scale), ties to
    even, at least 1 (assumption: cv2 fails on pictures that vanish).
    """
    if scale == 1:
        return image
    resized = cv2.resize(
        image.astype(np.float32), _vanishing(image, scale), fx=scale, fy=scale,
        interpolation=cv2.INTER_LINEAR,
    )  # fmt: skip
    return resized.reshape(*resized.shape[:2], image.shape[2]).astype(np.uint8)


def rescale_labels(labels: np.ndarray, scale: float) -> np.ndarray:
    """Rescale (H, W) uint8 labels by ``scale``, nearest neighbour as cv2 rounds it (IIC code)."""
    if scale == 1:
        return labels
    return cv2.resize(
        labels, _vanishing(labels, scale), fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST
    )


def _vanishing(pixels: np.ndarray, scale: float) -> tuple[int, int] | None:
    """Return an explicit size only where cv2's own rounding would give zero pixels."""
    height, width = (round(side * scale) for side in pixels.shape[:2])
    return None if height and width else (max(width, 1), max(height, 1))


def fit_shorter_side(size: tuple[int, int], shorter_side: int | None) -> float:
    """Return the factor that brings the shorter of (height, width) down to a length; at most 1."""
    return 1.0 if shorter_side is None else min(1.0, shorter_side / min(size))


def check_scale(scale: float) -> None:
    """Raise ValueError unless 0 < scale <= 1."""
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be in (0, 1], not {scale}")
