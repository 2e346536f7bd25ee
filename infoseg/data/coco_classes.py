"""COCO-Stuff's class names and the label tables of COCO-Stuff-15 and COCO-Stuff-3.

A pixel of a ``stuffthingmaps`` PNG is a *fine* class 0-181 (COCO category id - 1), or 255 where
nobody annotated. The 182 fine classes fall into 27 *coarse* ones: things 0-11, stuff 12-26.
Both benchmarks keep only stuff, so one lookup table per task is all that preparation needs.

Sources: names and ids from nightrome/cocostuff ``labels.txt``; the grouping from its label
hierarchy, in IIC's coarse order (``fine_to_coarse_dict.pickle``, the same mapping as STEGO's).
"""

from __future__ import annotations

import numpy as np

from infoseg.data.store_meta import IGNORE

FINE_NAMES: tuple[str, ...] = tuple(
    name.strip()
    for name in """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
    fire hydrant, street sign, stop sign, parking meter, bench, bird, cat, dog, horse, sheep,
    cow, elephant, bear, zebra, giraffe, hat, backpack, umbrella, shoe, eye glasses,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat,
    baseball glove, skateboard, surfboard, tennis racket, bottle, plate, wine glass, cup, fork,
    knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut,
    cake, chair, couch, potted plant, bed, mirror, dining table, window, desk, toilet, door, tv,
    laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator,
    blender, book, clock, vase, scissors, teddy bear, hair drier, toothbrush, hair brush,
    banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet,
    ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff,
    dirt, door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile, floor-wood,
    flower, fog, food-other, fruit, furniture-other, grass, gravel, ground-other, hill, house,
    leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement,
    pillow, plant-other, plastic, platform, playingfield, railing, railroad, river, road, rock,
    roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone,
    straw, structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick,
    wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other,
    waterdrops, window-blind, window-other, wood
    """.split(",")
)
"""The 182 fine names; the index is the value in a stuffthingmaps PNG.

Eleven ids (street sign, hat, shoe, ...) were dropped from COCO and never occur in its maps; they
keep their place so that index = category id - 1.
"""

_GROUPS: tuple[tuple[str, str], ...] = (
    ("electronic", "tv, laptop, mouse, remote, keyboard, cell phone"),
    ("appliance", "microwave, oven, toaster, sink, refrigerator, blender"),
    ("food", "banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake"),
    (
        "furniture",
        "chair, couch, potted plant, bed, mirror, dining table, window, desk, toilet, door",
    ),
    ("indoor", "book, clock, vase, scissors, teddy bear, hair drier, toothbrush, hair brush"),
    ("kitchen", "bottle, plate, wine glass, cup, fork, knife, spoon, bowl"),
    ("accessory", "hat, backpack, umbrella, shoe, eye glasses, handbag, tie, suitcase"),
    ("animal", "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe"),
    ("outdoor", "traffic light, fire hydrant, street sign, stop sign, parking meter, bench"),
    ("person", "person"),
    (
        "sports",
        "frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, "
        "surfboard, tennis racket",
    ),
    ("vehicle", "bicycle, car, motorcycle, airplane, bus, train, truck, boat"),
    # Stuff starts here (coarse 12).
    ("ceiling", "ceiling-other, ceiling-tile"),
    ("floor", "carpet, floor-marble, floor-other, floor-stone, floor-tile, floor-wood"),
    ("food", "food-other, fruit, salad, vegetable"),
    (
        "furniture",
        "cabinet, counter, cupboard, desk-stuff, door-stuff, furniture-other, light, "
        "mirror-stuff, shelf, stairs, table",
    ),
    ("rawmaterial", "cardboard, metal, paper, plastic"),
    (
        "textile",
        "banner, blanket, cloth, clothes, curtain, mat, napkin, pillow, rug, textile-other, towel",
    ),
    (
        "wall",
        "wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood",
    ),
    ("window", "window-blind, window-other"),
    ("building", "bridge, building-other, house, roof, skyscraper, tent"),
    (
        "ground",
        "dirt, gravel, ground-other, mud, pavement, platform, playingfield, railroad, road, "
        "sand, snow",
    ),
    ("plant", "branch, bush, flower, grass, leaves, moss, plant-other, straw, tree"),
    ("sky", "clouds, sky-other"),
    ("solid", "hill, mountain, rock, solid-other, stone, wood"),
    ("structural", "cage, fence, net, railing, structural-other"),
    ("water", "fog, river, sea, water-other, waterdrops"),
)

N_THINGS = 12
"""Coarse classes below this index are things, the rest stuff."""

COARSE_NAMES: tuple[str, ...] = tuple(name for name, _ in _GROUPS)
"""The 27 coarse names. "food" and "furniture" occur twice: as things and as stuff."""

STUFF15_CLASSES: tuple[str, ...] = COARSE_NAMES[N_THINGS:]
"""Class names of COCO-Stuff-15 in label order 0-14."""

STUFF3_CLASSES: tuple[str, ...] = ("sky", "plant", "ground")
"""Class names of COCO-Stuff-3 in label order 0-2 (coarse 23, 22, 21)."""


def fine_to_coarse() -> np.ndarray:
    """Return the coarse class 0-26 of every fine class, uint8 of shape (182,)."""
    table = np.full(len(FINE_NAMES), IGNORE, np.uint8)
    for coarse, (_, members) in enumerate(_GROUPS):
        for name in members.split(", "):
            table[FINE_NAMES.index(name)] = coarse
    return table


def _lookup(coarse_to_label: dict[int, int]) -> np.ndarray:
    table = np.full(256, IGNORE, np.uint8)
    for fine, coarse in enumerate(fine_to_coarse()):
        table[fine] = coarse_to_label.get(int(coarse), IGNORE)
    return table


def stuff15_lookup() -> np.ndarray:
    """Return the table from fine value to COCO-Stuff-15 label, uint8 of shape (256,).

    ``table[png]`` labels a whole map. Things, unlabelled pixels and values that are no class are
    255. Values 182-254 are errors in a file; finding them is the caller's task.
    """
    return _lookup({coarse: coarse - N_THINGS for coarse in range(N_THINGS, len(COARSE_NAMES))})


def stuff3_lookup() -> np.ndarray:
    """Return the table from fine value to COCO-Stuff-3 label, uint8 of shape (256,).

    sky 0, plant 1, ground 2; all else 255.
    """
    stuff = dict(zip(STUFF15_CLASSES, range(N_THINGS, len(COARSE_NAMES)), strict=True))
    return _lookup({stuff[name]: label for label, name in enumerate(STUFF3_CLASSES)})
