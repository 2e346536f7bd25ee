"""Equation 7 beside the bound it is preferred to: what a score earns, and what few samples do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from infoseg.losses import BOUNDS
from infoseg.reporting.style import ACCENT, new_figure, theme

#: Correlation of the two numbers whose information is estimated, -log(1 - r^2) / 2 = 0.83 nats.
CORRELATION = 0.9
COLOURS = {"jsd": ACCENT, "dv": "#D55E00"}
NAMES = {"jsd": "JSD (Eq. 7)", "dv": "DV"}


def critic(x: Tensor, y: Tensor, correlation: float = CORRELATION) -> Tensor:
    """log p(x, y) / (p(x) p(y)) of two normal numbers: the T at which both bounds are best.

    Any shapes that broadcast.
    """
    rest = 1 - correlation**2
    quadratic = correlation * (correlation * (x**2 + y**2) - 2 * x * y) / (2 * rest)
    return -quadratic - math.log(rest) / 2


def normal_scores(
    batch: int, generator: torch.Generator, correlation: float = CORRELATION
) -> tuple[Tensor, Tensor]:
    """Scores of joint pairs (B, 1) and of marginal pairs (B, 1): every x with the next one's y."""
    x, noise = torch.randn(2, batch, 1, generator=generator)
    y = correlation * x + math.sqrt(1 - correlation**2) * noise
    return critic(x, y, correlation), critic(x, y.roll(-1, 0), correlation)


def information(correlation: float = CORRELATION) -> float:
    """Mutual information of two normal numbers in nats."""
    return -math.log(1 - correlation**2) / 2


def estimates(batches: Sequence[int], draws: int, seed: int = 0) -> pd.DataFrame:
    """Both bounds at the best T: a row per batch size and bound, mean and std over the draws."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for batch in batches:
        scores = [normal_scores(batch, generator) for _ in range(draws)]
        for name, bound in BOUNDS.items():
            values = np.array([float(bound(*pair)) for pair in scores])
            row = {"batch": batch, "bound": name, "mean": values.mean(), "std": values.std(ddof=1)}
            found.append(row)
    return pd.DataFrame(found)


def pushes(negative: Tensor) -> dict[str, np.ndarray]:
    """How hard each bound pushes each marginal score down: minus its gradient, (N,) each."""
    found = {}
    for name, bound in BOUNDS.items():
        scores = negative.clone()[:, None].requires_grad_()
        bound(torch.zeros(1, 1), scores).backward()
        found[name] = -scores.grad[:, 0].numpy()
    return found


def two_bounds(batches: Sequence[int] = (4, 8, 16, 32, 64, 128), draws: int = 200) -> Figure:
    """What a marginal score costs, whom the gradient pushes, and what batches of some size say."""
    scores = normal_scores(16, torch.Generator().manual_seed(0))[1][:, 0].sort().values
    with theme():
        figure = new_figure(7.6, 2.5)
        worth, push, batch = figure.subplots(1, 3)
        _worth(worth)
        places = np.arange(len(scores))
        for shift, (name, values) in zip((-0.2, 0.2), pushes(scores).items(), strict=True):
            push.bar(places + shift, values, 0.4, color=COLOURS[name])
        push.set_xticks(places[::5], [f"{v:.1f}".replace("-", "−") for v in scores[::5].tolist()])
        push.set_xlabel("T of 16 marginal pairs, sorted")
        push.set_ylabel("minus the gradient")
        push.set_title("Who is pushed down")
        found = estimates(batches, draws)
        for name, part in found.groupby("bound", sort=False):
            low, high = part["mean"] - part["std"], part["mean"] + part["std"]
            batch.fill_between(part["batch"], low, high, color=COLOURS[name], alpha=0.2, lw=0)
            batch.plot(part["batch"], part["mean"], color=COLOURS[name], lw=1.4)
        batch.axhline(information(), color="0.3", ls=(0, (4, 2)), lw=0.9)
        place = (batches[0], information())
        batch.annotate(f"I = {information():.2f}", place, (2, -9), textcoords="offset points")
        batch.set_xscale("log", base=2)
        batch.set_xticks(batches, [str(b) for b in batches])
        batch.minorticks_off()
        batch.set_xlabel("pairs in a batch")
        batch.set_ylabel("nats")
        batch.set_title(f"Mean ± std, {draws} batches")
        sns.despine(figure)
        handles = [batch.lines[i] for i in range(len(BOUNDS))]
        names = [NAMES[name] for name in found["bound"].unique()]
        figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


def _worth(ax: Axes) -> None:
    """Either bound as all scores are made larger, joint ones up, marginal ones down."""
    scales = torch.linspace(0, 6, 49)
    for name, bound in BOUNDS.items():
        values = [float(bound(s.view(1, 1), -s.view(1, 1))) for s in scales]
        ax.plot(scales, values, color=COLOURS[name], lw=1.4)
    ax.axhline(0, color="0.8", lw=0.6, zorder=0)
    ax.set_xlabel("T of joint, −T of marginal pairs")
    ax.set_ylabel("bound, nats")
    ax.set_title("What scores earn")
