"""The toy world: its optimum, what a critic that knows it gets, and what does not reward names."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import objective

from infoseg.losses import class_scores, infoseg_loss, jsd_lower_bound
from infoseg.toy import Features, World, compare, compare_constant, learn

READINGS = ("rematched", "log_sum_exp", "paired", "random_position")


def test_the_optimum_is_that_of_the_density_ratio():
    # A type is in its own picture surely and in another one of A times: T is log A there.
    world = World(appearances=4)
    positive = torch.full((4,), math.log(4))
    negative = torch.tensor([math.log(4), -100.0, -100.0, -100.0])
    assert world.optimum() == pytest.approx(float(jsd_lower_bound(positive, negative)), abs=1e-6)


@pytest.mark.parametrize("layout", ["random", "fixed"])
def test_every_class_has_its_share_of_every_picture_and_fixed_layouts_are_the_same(layout):
    world = World(layout=layout)
    classes, appearances = world.pictures(50, torch.Generator().manual_seed(0))
    assert (torch.nn.functional.one_hot(classes).sum(1) == 12).all()
    assert appearances.shape == (50, 3) and set(appearances.unique().tolist()) == {0, 1, 2, 3}
    assert (classes == classes[0]).all() == (layout == "fixed")


def ideal(world: World, scale: float) -> Features:
    """Features that know the world: head k answers for the types of class k."""
    model = Features(world, world.types, constant=False)
    with torch.no_grad():
        model.local.copy_(torch.eye(world.types))
        weight = torch.zeros(world.classes, world.types, world.types)
        for k in range(world.classes):
            own = slice(k * world.appearances, (k + 1) * world.appearances)
            weight[k, own, own] = (10 + scale) * torch.eye(world.appearances)
        model.glob.weight.copy_(weight.flatten(0, 1))
        model.glob.bias.fill_(-10.0)  # the score of what a picture does not have
    return model


@torch.no_grad()
def test_features_that_know_the_world_reach_the_optimum_and_name_classes_alike():
    world = World()
    generator = torch.Generator().manual_seed(0)
    classes, appearances = world.pictures(4000, generator)
    best = -math.inf
    for scale in (0.5, 1.0, math.log(4), 2.0, 4.0):
        local, glob = ideal(world, scale)(classes, appearances)
        settings = objective(marginal="rematched", tau=2.0, score_factor=1.0)
        best = max(best, -float(infoseg_loss(local, glob, settings)))
        labels = class_scores(local.flatten(2), glob).argmax(1)
        assert torch.equal(labels, classes)
    assert best == pytest.approx(world.optimum(), abs=0.02)


@torch.no_grad()
@pytest.mark.parametrize("marginal", READINGS)
def test_no_reading_asks_a_class_to_have_the_same_head_in_all_pictures(marginal):
    world = World()
    generator = torch.Generator().manual_seed(0)
    local, glob = Features(world, 8, constant=False)(*world.pictures(16, generator))
    order = torch.rand(glob.shape[:2], generator=generator).argsort(1)
    renamed = glob.gather(1, order[..., None].expand_as(glob))
    settings = objective(marginal=marginal, score_factor=1.0)
    losses = [
        infoseg_loss(local, heads, settings, torch.Generator().manual_seed(1))
        for heads in (glob, renamed)
    ]
    assert float(losses[0]) == pytest.approx(float(losses[1]), abs=1e-5)
    assert not torch.equal(glob, renamed)


def test_learning_comes_near_the_optimum_and_is_the_same_for_the_same_seed():
    world = World()
    settings = objective(marginal="rematched", score_factor=1.0)
    found = learn(world, settings, 0, steps=300)
    assert world.optimum() - 0.25 < found["bound"] < 0
    assert 33 < found["pa"] <= found["within_image_pa"] <= 100
    assert found == learn(world, settings, 0, steps=300)


def test_the_comparison_has_a_row_for_each_reading_and_length_and_means_over_seeds():
    world, seeds = World(positions=9), [0, 1]
    found = compare(world, [4, 8], seeds, steps=5)
    assert found.index.tolist() == [
        ("paired", 4),
        ("paired", 8),
        ("rematched", 4),
        ("rematched", 8),
    ]
    settings = objective(marginal="rematched", score_factor=1.0, tau=0.8)
    each = [learn(world, settings, seed, 5, features=8)["pa"] for seed in seeds]
    assert found["pa"]["rematched", 8] == pytest.approx(sum(each) / 2, abs=0.01)
    assert (found["optimum"] == round(world.optimum(), 2)).all()


def test_pictures_need_not_be_looked_at_for_eq_8_as_written_and_for_others_they_must():
    world = World()
    # A decided V: the same code in one picture of three, whatever the picture.
    positive, negative = torch.tensor([math.log(3)]), torch.tensor([math.log(3), -100, -100])
    earned = float(jsd_lower_bound(positive, negative))
    for marginal in ("paired", "random_position"):
        assert world.constant_bound(marginal) == pytest.approx(earned, abs=1e-6)
    found = compare_constant(world, [0], steps=200)
    assert found["bound"]["paired"] > earned - 0.1
    assert found["bound"]["rematched"] == pytest.approx(-2 * math.log(2), abs=0.02)
    assert found["decided"]["rematched"] == pytest.approx(-2 * math.log(2), abs=0.01)
