"""Early failure signs: what is wrong with an evaluation, in plain sentences.

Everything is read from one part of an evaluation (`summarise`), so that the console, the notebooks
and the report say the same. A run without a sign is not thereby a good one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infoseg.evaluation import USED, match_clusters

WORTH = 0.02
"""A PA above the constant answer's by less than this share of the room that is left above it is
hardly above it: a point or so, which is less than most methods spread over seeds."""

WITHIN = 0.5
"""The share of the room above chance that one match per image has to reach before labels can be
said to permute. A match per image always gains something: on the rendered data the label maps of
22 runs, each laid on other images' annotations, reached 0.06 to 0.43 of the room above the chance
of the whole data set, and one class everywhere 0.13 to 0.45 (images differ in their commonest
class). Below a half, the gain says nothing about the segments."""

LOST = 0.5
"""Labels permute when one match for the data set keeps at most this share of the skill that one
match per image has: the segments are there, and at least half of their worth is not."""

UNIFORM = 0.98
"""Entropy of V, in units of log K, from which on it is called uniform. At 0.98 the likeliest of
three classes has a probability of about 0.43, with the others at 0.29."""


def signs(part: dict[str, Any], clusters_wanted: int | None = None) -> list[str]:
    """The failure signs of one evaluation, gravest first; an empty list where there is none.

    part: `start`, `last` or `best` of an evaluation, as `evaluate` makes it (percent, and the
    entropy of V in units of log K under `assignment_entropy`, None or absent where a method has no
    probabilities). clusters_wanted: how many clusters should be in use; as many as the method has,
    unless given. Classes that hold next to no pixel cost no cluster.
    """
    if not part["pixels"]:
        return ["no pixel is annotated, so nothing was measured"]
    found = []
    used = part["clusters_used"]
    wanted = clusters_wanted or len(part["cluster_usage"])
    classes = np.sum(part["confusion"], axis=0)
    rare = int((classes <= USED * classes.sum()).sum())
    if used < wanted - rare:
        found.append(f"uses {used} of {wanted} clusters")
    # A single cluster has no labels to permute; its match per image follows the commonest class.
    if used > 1 and labels_permute(part):
        within = part["pa"] + part["permutation_gap"]
        found.append(
            "labels permute between images "
            f"(within-image PA {within:.0f}, data-set PA {part['pa']:.0f})"
        )
    pa, constant = part["pa"], part["constant_pa"]
    # With a single class annotated everywhere, the constant answer is right.
    if pa <= constant < 100:
        found.append(
            f"no better than one class everywhere (PA {pa:.0f}, constant answer {constant:.0f})"
        )
    elif pa - constant < WORTH * (100 - constant):
        found.append(
            f"hardly better than one class everywhere (PA {pa:.1f}, constant answer {constant:.1f})"
        )
    entropy = part.get("assignment_entropy")
    if entropy is not None and entropy >= UNIFORM:
        found.append(f"V is still uniform (entropy {entropy:.2f} of log K)")
    return found


def chance_accuracy(part: dict[str, Any]) -> float:
    """PA in percent of labels as frequent as these that know nothing of the class.

    The best one-to-one match of clusters to classes when the two are independent: the confusion
    is then the product of cluster usage and class shares. Balanced clusters get 100 / K, one
    cluster the constant answer's PA.
    """
    confusion = np.asarray(part["confusion"], dtype=float)
    confusion /= confusion.sum()
    independent = np.outer(confusion.sum(1), confusion.sum(0))
    match = match_clusters(independent)
    matched = match >= 0
    return float(100 * independent[matched, match[matched]].sum())


def labels_permute(part: dict[str, Any]) -> bool:
    """Whether segments are good inside images while their labels change from image to image.

    Skill is the share of the room above chance that is reached. One match per image must have a
    skill of at least `WITHIN`, above what it would gain in images of unrelated labels, and one for
    the data set at most `LOST` of it.
    """
    within = _skill(part["pa"] + part["permutation_gap"], part["within_image_chance"])
    return within >= WITHIN and _skill(part["pa"], chance_accuracy(part)) <= LOST * within


def _skill(accuracy: float, chance: float) -> float:
    return (accuracy - chance) / (100 - chance) if chance < 100 else 0.0
