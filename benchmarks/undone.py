"""Speed choices of a training undone, one by one: what they are measured and checked against."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from infoseg.training import SCHEDULES, Optimisation
from infoseg.views import Views


def channels_first(made: Optimisation) -> Optimisation:
    """Weights and images of a training that is not begun lie as PyTorch lays them by default."""
    made.method.to(memory_format=torch.contiguous_format)
    loss = made.loss_of

    def contiguous(views: Views, generator: torch.Generator) -> Tensor:
        images = views.images.contiguous(memory_format=torch.contiguous_format)
        return loss(dataclasses.replace(views, images=images), generator)

    made.loss_of = contiguous
    return made


def unfused(made: Optimisation) -> Optimisation:
    """Adam of a training that is not begun takes one operation after the other."""
    settings = made.settings
    made.adam = torch.optim.Adam(made.method.parameters(), lr=settings.learning_rate)
    schedule = SCHEDULES[settings.schedule](settings.steps)
    made.schedule = torch.optim.lr_scheduler.LambdaLR(made.adam, schedule)
    return made
