"""A toy world whose optimum is known, to tell what Eq. 8 rewards from what optimisation finds.

Every picture shows K classes; each class comes in A appearances, of which a picture has one. A
position shows nothing but which class and appearance it belongs to (its type). L is a free vector
for each of the K A types; H is linear in the picture's composition, as block D is linear in what
block C gives. So nothing stands between the objective and the features but Adam.

The optimum of Eq. 7 is where T is the logarithm of the ratio of joint to marginal density. Given a
position's type, `rematched` and `log_sum_exp` can ask whether picture x' has that type: one in A of
all pictures has. So T = log A where it has, and very low where not, and the bound is
-log(1 + 1/A) - log(1 + A) / A. It is reached when each head stands for types of which a picture
never has two, that is for a class; a head for types that occur together must serve both with one
vector. Nothing in the objective asks that a class has the same head in all pictures.

With H the same for all pictures, `rematched` and `log_sum_exp` cannot tell pairs apart: the bound
is that of a guess, -2 log 2. `paired` can: S of the position itself is what V says of L, and S of
the same position in another picture is something else in all but one of K pictures. No picture has
to be looked at for that, only the position: any division of what positions show into K equal parts
earns -log(1 + 1/K) - log(1 + K) / K, and more where V is not quite decided, since mixtures of the
H_k tell more than K things apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from infoseg.evaluation import match_clusters, per_image_accuracy, pixel_accuracy
from infoseg.losses import ObjectiveSettings, class_scores, infoseg_loss


@dataclass(frozen=True)
class World:
    """layout: `random` puts classes anywhere; `fixed` gives every position one class in all
    pictures, as sky is above and ground below."""

    classes: int = 3
    appearances: int = 4
    positions: int = 36
    layout: str = "random"

    @property
    def types(self) -> int:
        return self.classes * self.appearances

    def pictures(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Classes at the positions (B, N), and the appearance of every class (B, K)."""
        block = torch.arange(self.positions) * self.classes // self.positions
        classes = block.expand(count, -1)
        if self.layout == "random":
            order = torch.rand(count, self.positions, generator=generator).argsort(1)
            classes = classes.gather(1, order)
        shape = (count, self.classes)
        return classes, torch.randint(self.appearances, shape, generator=generator)

    def optimum(self) -> float:
        """The largest value of Eq. 7 for a critic that knows which types a picture has, in nats."""
        a = self.appearances
        return -math.log(1 + 1 / a) - math.log(1 + a) / a

    def constant_bound(self, marginal: str) -> float:
        """What a decided V earns where H does not depend on the picture, in nats."""
        k = self.classes
        guess = -2 * math.log(2)
        earns = marginal in ("paired", "random_position")
        return -math.log(1 + 1 / k) - math.log(1 + k) / k if earns else guess


class Features(nn.Module):
    """L by type, and H linear in which types a picture has, at first random.

    constant: H is the same for all pictures.
    """

    def __init__(self, world: World, features: int, constant: bool):
        super().__init__()
        self.world = world
        self.constant = constant
        self.local = nn.Parameter(torch.randn(world.types, features) / math.sqrt(features))
        self.glob = nn.Linear(world.types, world.classes * features)

    def forward(self, classes: Tensor, appearances: Tensor) -> tuple[Tensor, Tensor]:
        """→ (B, P, 1, N), (B, K, P)."""
        world = self.world
        types = classes * world.appearances + appearances.gather(1, classes)
        has = torch.arange(world.classes) * world.appearances + appearances
        composition = torch.zeros(len(has), world.types)
        if not self.constant:  # what is left is the bias
            composition.scatter_(1, has, 1.0)
        local = self.local[types].transpose(1, 2)[:, :, None]
        return local, self.glob(composition).unflatten(1, (world.classes, -1))


def learn(
    world: World,
    objective: ObjectiveSettings,
    seed: int,
    steps: int = 600,
    batch: int = 32,
    features: int = 32,
    learning_rate: float = 0.01,
    constant: bool = False,
) -> dict[str, Any]:
    """Train on fresh pictures; returns the bound, PA and PA with a match per picture on others.

    constant: see `Features`.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Features(world, features, constant)
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for _ in range(steps):
        loss = infoseg_loss(*model(*world.pictures(batch, generator)), objective, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        classes, appearances = world.pictures(1000, generator)
        local, glob = model(classes, appearances)
        bound = -float(infoseg_loss(local, glob, objective, generator))
        labels = class_scores(local.flatten(2), glob, objective.score_factor).argmax(1)
    counts = np.zeros((len(labels), world.classes, world.classes), dtype=np.int64)
    np.add.at(counts, (np.arange(len(labels))[:, None], labels.numpy(), classes.numpy()), 1)
    total = counts.sum(0)
    return {
        "bound": bound,
        "pa": pixel_accuracy(total, match_clusters(total)),
        "within_image_pa": per_image_accuracy(counts),
    }


def compare(
    world: World,
    lengths: Sequence[int],
    seeds: Sequence[int],
    steps: int,
    marginals: Sequence[str] = ("paired", "rematched"),
) -> pd.DataFrame:
    """`learn` for every reading of Eq. 8, length of the features and seed; means over the seeds."""
    rows = [
        {"marginal": marginal, "P": length}
        | learn(world, _objective(marginal), seed, steps, features=length)
        for marginal in marginals
        for length in lengths
        for seed in seeds
    ]
    frame = pd.DataFrame(rows).assign(optimum=world.optimum())
    return frame.groupby(["marginal", "P"], sort=False).mean().round(2)


def compare_constant(
    world: World,
    seeds: Sequence[int],
    steps: int,
    marginals: Sequence[str] = ("paired", "rematched"),
) -> pd.DataFrame:
    """`learn` where H is the same for all pictures, beside what a decided V earns then."""
    rows = [
        {"marginal": marginal, "decided": world.constant_bound(marginal)}
        | learn(world, _objective(marginal), seed, steps, constant=True)
        for marginal in marginals
        for seed in seeds
    ]
    return pd.DataFrame(rows).groupby("marginal", sort=False).mean().round(2)


def _objective(marginal: str) -> ObjectiveSettings:
    """The paper's, with scores as they are."""
    return ObjectiveSettings(
        tau=0.8,
        score_factor=1.0,
        measure="jsd",
        assignment="soft",
        marginal=marginal,
        negatives="derangement",
        gradient_through_v=True,
    )
