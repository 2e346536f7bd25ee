"""What can be said of a trained method without labels, and of InfoSeg's features.

Signals are for choosing among seeds and settings (`label_free`) and for explaining what happened
(`mechanism`). All are computed on the crops evaluation looks at; none needs a label, but for
`mechanism`'s accuracy of L alone, which is an explanation and chooses nothing.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.special import entr
from sklearn.cluster import KMeans
from torch import Tensor

from infoseg.devices import autocast, choose_precision
from infoseg.evaluation import match_clusters, pixel_accuracy
from infoseg.jitter import JitterSettings, colour_jitter
from infoseg.losses import infoseg_loss
from infoseg.methods.base import Method
from infoseg.methods.infoseg import InfoSeg
from infoseg.params import TrainingParams
from infoseg.selection import agreement
from infoseg.views import IGNORE, DeviceData, centre_crops, training_images

#: IIC's strengths, for the agreement between an image and its jittered view.
JITTER = JitterSettings(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.125)
#: Positions of each image that k-means on L looks at.
SAMPLED = 64


@torch.no_grad()
def label_free(
    method: Method, data: DeviceData, params: TrainingParams, seed: int
) -> dict[str, float]:
    """Signals of a trained method.

    flip_agreement, jitter_agreement: between an image's labels and those of its mirrored or
    jittered view, beyond chance. usage_entropy: of the shares of the clusters, in units of log K.
    decidedness: 1 minus the mean entropy of V. bound: of InfoSeg's objective on the images that
    training left out (on those trained on where none was), in nats, at most 0.
    """
    method.eval()
    generator = torch.Generator(data.device).manual_seed(seed)
    precision = choose_precision(params.precision, data.device)
    plain, mirrored, jittered, entropies = [], [], [], []
    for views in centre_crops(data, data.evaluated, params.evaluation_batch, mask=False):
        regions = None if views.regions is None else views.regions.flip(-1)
        mirror = replace(views, images=views.images.flip(-1), regions=regions)
        jitter = replace(views, images=colour_jitter(views.images, JITTER, generator))
        with autocast(data.device, precision):
            labels, entropy = method.segment_with_entropy(views)
            plain.append(labels)
            mirrored.append(method.segment(mirror).flip(-1))
            jittered.append(method.segment(jitter))
        if entropy is not None:
            entropies.append(entropy.float())
    labels = torch.cat(plain).cpu().numpy()
    usage = np.bincount(labels.ravel(), minlength=method.clusters) / labels.size
    found = {
        "flip_agreement": agreement(labels, torch.cat(mirrored).cpu().numpy(), method.clusters),
        "jitter_agreement": agreement(labels, torch.cat(jittered).cpu().numpy(), method.clusters),
        "usage_entropy": float(entr(usage).sum() / math.log(max(2, method.clusters))),
    }
    if entropies:
        found["decidedness"] = 1 - float(torch.cat(entropies).mean())
    if isinstance(method, InfoSeg):
        found["bound"] = _bound(method, data, params, generator)
    return found


def _bound(
    method: InfoSeg, data: DeviceData, params: TrainingParams, generator: torch.Generator
) -> float:
    trained, left_out = training_images(data, params.images)
    images = left_out if len(left_out) > 1 else trained
    images = images[torch.randperm(len(images), generator=generator, device=data.device)]
    precision = choose_precision(params.precision, data.device)
    losses = []
    for views in centre_crops(data, images, params.evaluation_batch, mask=False):
        if len(views.images) > 1:  # a pair is needed
            with autocast(data.device, precision):
                local, glob = method.features(views.images)
                losses.append(infoseg_loss(local, glob, method.objective, generator).float())
    return -float(torch.stack(losses).mean())


@torch.no_grad()
def mechanism(
    method: InfoSeg, data: DeviceData, params: TrainingParams, seed: int
) -> dict[str, Any]:
    """What InfoSeg's features do.

    cosine: between the K global features of an image, in the mean. constant_share: of the squared
    length of H_k, the part that is the same for all images (1: H_k does not depend on the image).
    local_pa: PA of k-means with K clusters on L alone, matched like any other method: what L
    predicts without H, on the pixels under its positions.
    """
    method.eval()
    generator = torch.Generator(data.device).manual_seed(seed)
    precision = choose_precision(params.precision, data.device)
    globs, samples, annotations = [], [], []
    for items in data.evaluated.split(params.evaluation_batch):
        rows = data.centre(items)
        views = data.views(rows, items, mask=False)
        with autocast(data.device, precision):
            local, glob = method.features(views.images)
        globs.append(glob.float())
        stride = views.images.shape[-1] // local.shape[-1]
        annotation = data.annotation(rows)[:, stride // 2 :: stride, stride // 2 :: stride]
        annotation = annotation[:, : local.shape[-2], : local.shape[-1]].flatten(1)
        places = torch.rand(annotation.shape, generator=generator, device=data.device)
        places = places.argsort(1)[:, :SAMPLED]
        features = local.float().flatten(2).transpose(1, 2)
        index = places[..., None].expand(-1, -1, features.shape[-1])
        samples.append(features.gather(1, index).flatten(0, 1))
        annotations.append(annotation.gather(1, places).flatten())
    glob = torch.cat(globs)
    return {
        "cosine": _mean_cosine(glob),
        "constant_share": float((glob.mean(0) ** 2).sum() / (glob**2).sum(-1).mean(0).sum()),
        "local_pa": _local_pa(torch.cat(samples), torch.cat(annotations), method.clusters, seed),
    }


def _mean_cosine(glob: Tensor) -> float:
    """Mean cosine of the pairs among K vectors, (B, K, P) → a number; 1 where there is no pair."""
    unit = torch.nn.functional.normalize(glob, dim=-1)
    count = glob.shape[1]
    if count == 1:
        return 1.0
    gram = unit @ unit.transpose(1, 2)
    return float((gram.sum((1, 2)) - count).mean() / (count * (count - 1)))


def _local_pa(features: Tensor, annotation: Tensor, clusters: int, seed: int) -> float:
    found = KMeans(clusters, n_init=3, random_state=seed).fit(features.cpu().numpy()).labels_
    classes = annotation.cpu().numpy()
    known = classes != IGNORE
    width = int(classes[known].max()) + 1
    pairs = found[known].astype(np.int64) * width + classes[known]
    confusion = np.bincount(pairs, minlength=clusters * width).reshape(clusters, width)
    return pixel_accuracy(confusion, match_clusters(confusion))
