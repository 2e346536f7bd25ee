"""Label maps beside one's own pictures: index PNGs, and how well clusters fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from infoseg.data.folder import read_classes
from infoseg.data.pictures import check_classes, check_size, read_labels
from infoseg.data.store import IGNORE
from infoseg.diagnostics import summarise
from infoseg.files import DataError


class Labels:
    """Label maps <picture's name>.png: 8-bit class numbers from 0, 255 = unknown.

    Class names are those of `dataset.json` beside the folder, where it describes them. Raises
    DataError for a folder that is missing or holds a label for none of the pictures.
    """

    def __init__(self, folder: Path, pictures: Sequence[str], clusters: int):
        if not folder.is_dir():
            raise DataError("folder not found", file=folder, advice="Check the path of the labels")
        self.folder, self.clusters = folder, clusters
        self.maps = {name: file for name in pictures if (file := folder / f"{name}.png").is_file()}
        if not self.maps:
            raise DataError(
                "holds a label map for none of the pictures",
                file=folder,
                advice="Name label maps after the pictures, with the ending .png",
            )
        self.names = read_classes(folder.parent / "dataset.json", folder.name)
        self.counts: dict[str, dict[str, np.ndarray]] = {}
        self.annotations: dict[str, np.ndarray] = {}

    def check(self, name: str, size: tuple[int, int]) -> None:
        """Read a picture's label map, if it has one. Raises DataError for another (H, W) size."""
        if name not in self.maps:
            return
        labels = read_labels(self.maps[name])
        check_size(labels, size, self.maps[name])
        if self.names:
            check_classes(labels, len(self.names), self.maps[name])
        self.annotations[name] = labels

    def add(self, name: str, answers: Mapping[str, np.ndarray]) -> None:
        """Count a picture's pixels by annotated class and by the cluster (H, W) of each answer."""
        labels = self.annotations.pop(name)
        known = labels != IGNORE
        classes = labels[known].astype(np.int64)
        for answer, clusters in answers.items():
            pairs = clusters[known].astype(np.int64) * 256 + classes
            counts = np.bincount(pairs, minlength=self.clusters * 256).reshape(-1, 256)
            self.counts.setdefault(answer, {})[name] = counts

    def summary(self) -> tuple[dict[str, tuple[float, float]], dict[str, str | None]]:
        """PA and mIoU in percent of every answer and of one class, and InfoSeg's match.

        Clusters are matched with classes once for all pictures. Empty if no pixel was annotated.
        """
        found = {}
        match: dict[str, str | None] = {}
        for answer, counts_of in self.counts.items():
            counts = np.stack(list(counts_of.values()))
            seen = np.flatnonzero(counts.sum((0, 1)))
            if not len(seen):
                return {}, {}
            names = self.names or [f"class {c}" for c in range(int(seen.max()) + 1)]
            summary = summarise(counts[..., : len(names)], list(counts_of), names)
            if not found:
                match = summary["match"]
                whole = np.zeros_like(counts)
                whole[:, 0] = counts.sum(1)
                constant = summarise(whole[..., : len(names)], list(counts_of), names)
            found[answer] = summary["pa"], summary["miou"]
        if found:
            found["one class"] = constant["pa"], constant["miou"]
        return found, match
