"""An exponential moving average of the weights, to be evaluated in place of the last ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


class Average:
    """The moving average of a module's parameters and running statistics.

    decay: of the average by step; in the first steps less, min(decay, (1 + n) / (10 + n)), so that
    it does not rest on the initial weights for long.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.steps = 0
        every = [*module.parameters(), *module.buffers()]
        self.values = [value.detach() for value in every if value.is_floating_point()]
        self.mean = [value.clone() for value in self.values]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.mean, self.values, 1 - decay)

    def keep(self) -> None:
        """Give the module the averaged weights for good."""
        torch._foreach_copy_(self.values, self.mean)

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "mean": self.mean}

    def restore(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for mean, kept in zip(self.mean, state["mean"], strict=True):
            mean.copy_(kept)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averaged weights within the block, and its own again after it."""
        own = [value.clone() for value in self.values]
        self.keep()
        try:
            yield
        finally:
            torch._foreach_copy_(self.values, own)
