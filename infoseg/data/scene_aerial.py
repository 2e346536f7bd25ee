"""One procedural aerial tile with the six Potsdam classes: RGB + infrared and its annotation."""

import cv2
import numpy as np

from infoseg.data import scene_aerial_parts as parts
from infoseg.data.scene_aerial_parts import CAR, CLUTTER, LOW, ROAD, Sheet
from infoseg.data.scene_textures import cells, fractal, smoothstep

LAYOUT = 960  # tile size in pixels for which the counts below are meant; others scale by area
ROAD_WIDTH = (44, 84)
HOUSE_PITCH = (98, 140)  # distance of the building plots
TREES, CARS, YARDS = 95, 78, 5


def _roads(s: Sheet) -> tuple[np.ndarray, list[tuple[np.ndarray, float]]]:
    """Lay two to four roads; returns the cover of roads and pavements and the centre lines."""
    rng, n = s.rng, s.size
    lines = []
    angle = rng.uniform(-0.25, 0.25)
    count = max(2, round(rng.uniform(1.8, 3.7) * n / LAYOUT))
    for i in range(count):
        across = i % 2 == 0
        at = (i // 2 + rng.uniform(0.25, 0.75)) / ((count + 1) // 2) * n
        t = np.linspace(-0.1, 1.1, 60) * n
        bend = rng.uniform(0, 60) * np.sin(
            2 * np.pi * t / n * rng.uniform(0.4, 0.9) + rng.uniform(0, 6)
        )
        off = at + bend + np.tan(angle) * (t - n / 2)
        line = np.stack([t, off], 1) if across else np.stack([n - off, t], 1)
        lines.append((line, rng.uniform(*ROAD_WIDTH)))
    verge = parts.stroke(n, [(p, w + 26) for p, w in lines])
    carriage = parts.stroke(n, lines)
    slab = parts.paving(s, 18)
    s.cover(slab, ROAD, verge)
    s.cover(parts.asphalt(s), ROAD, carriage)
    kerb = cv2.GaussianBlur(carriage, (0, 0), 1.2)
    s.light(1 - 0.9 * np.clip(kerb * (1 - kerb) * 4, 0, 1) * 0.35)
    for p, w in lines:
        parts.road_marking(s, p, w, carriage)
    return verge, lines


def _plots(s: Sheet) -> None:
    """Lawns, fields and bare yards on all that is not road."""
    rng, n = s.rng, s.size
    plot = cells(rng, n, n, rng.uniform(150, 230), rng.uniform(0.8, 1.3), 0.7)
    kinds = np.clip((plot.shade * 6).astype(int), 0, 5)
    for k in range(6):
        mask = (kinds == k).astype(np.float32)
        if rng.random() < 0.2:
            s.cover(parts.paving(s, rng.uniform(14, 26)), ROAD, mask)
        else:
            s.cover(parts.lawn(s), LOW, mask)
    if rng.random() < 0.8:
        edge = smoothstep(7, 4, plot.edge) * (plot.edge < 8)
        s.cover(parts.paving(s, 12), ROAD, edge.astype(np.float32))


def _buildings(s: Sheet, free: np.ndarray, lines) -> None:
    """Houses and halls on a loose grid, turned like the nearest road."""
    rng, n = s.rng, s.size
    pitch = rng.uniform(*HOUSE_PITCH)
    spots = np.arange(pitch * 0.4, n, pitch)
    ys, xs = np.meshgrid(spots, spots, indexing="ij")
    route = np.concatenate([p for p, _ in lines])
    heading = np.concatenate([np.gradient(p, axis=0) for p, _ in lines])
    for x, y in rng.permutation(np.stack([xs.ravel(), ys.ravel()], 1)):
        x, y = np.array([x, y]) + rng.uniform(-0.16, 0.16, 2) * pitch
        if rng.random() < 0.12:
            continue
        xi, yi = int(np.clip(x, 0, n - 1)), int(np.clip(y, 0, n - 1))
        room = free[yi, xi]
        long = min(rng.uniform(60, 200), 1.9 * room)
        wide = min(long * rng.uniform(0.45, 0.8), 95)
        around = s.label[max(yi - 22, 0) : yi + 22, max(xi - 22, 0) : xi + 22]
        if long < 50 or np.any(around == parts.BUILDING):
            continue
        nearest = np.argmin(np.sum((route - [x, y]) ** 2, 1))
        turn = np.arctan2(heading[nearest, 1], heading[nearest, 0])
        if rng.random() < 0.5:
            turn += np.pi / 2
        parts.building(s, x, y, long, wide, turn)
        if rng.random() < 0.3 and long > 90:  # a wing makes an L
            side = turn + np.pi / 2
            wx, wy = x + 0.4 * long * np.cos(turn), y + 0.4 * long * np.sin(turn)
            wx, wy = wx + 0.4 * wide * np.cos(side), wy + 0.4 * wide * np.sin(side)
            parts.building(s, wx, wy, 0.8 * wide, 0.5 * wide, side)


def _yards(s: Sheet, verge: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Parking lots (returned as x, y, width, height) and pieces of clutter."""
    rng, n = s.rng, s.size
    area = (n / LAYOUT) ** 2
    lots = []
    for _ in range(max(1, round(1.6 * area))):
        w, h = rng.uniform(160, 260), rng.uniform(96, 150)
        x, y = rng.uniform(0, max(n - w, 1)), rng.uniform(0, max(n - h, 1))
        lots.append((x, y, w, h))
    makers = (parts.site, parts.pond, parts.court, parts.containers, parts.site)
    first = rng.integers(len(makers))
    for i in range(max(2, round(YARDS * area))):
        w, h = rng.uniform(90, 190), rng.uniform(80, 150)
        x, y = rng.uniform(0, max(n - w, 1)), rng.uniform(0, max(n - h, 1))
        makers[(first + i) % len(makers)](s, x, y, w, h, 1 - verge)
    for lot in lots:  # after the clutter, so that no heap lies under a parked car
        s.cover(parts.asphalt(s), ROAD, parts.box(n, *lot) * (1 - verge))
    return lots


def _cars(s: Sheet, lines, lots, free: np.ndarray) -> None:
    """Cars in lots, along the kerbs and in the lanes; none on a roof."""
    rng, n = s.rng, s.size
    spots = []
    for x, y, w, h in lots:
        for row in (0.2, 0.8):
            for at in np.arange(x + 12, x + w - 8, 20.5):
                if rng.random() < 0.8:
                    spots.append((at, y + row * h, np.pi / 2 + (row < 0.5) * np.pi))
    for line, width in lines:
        ahead = np.gradient(line, axis=0)
        turn = np.arctan2(ahead[:, 1], ahead[:, 0])
        run = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        for lane, gap in ((-0.5, 40), (0.5, 40), (-0.22, 150), (0.22, 150)):
            reach = width * lane + np.sign(lane) * (-9 if abs(lane) == 0.5 else 0)
            for at in np.arange(rng.uniform(0, gap), run[-1], gap):
                if rng.random() < 0.55:
                    a = np.interp(at + rng.normal(0, 2), run, turn)
                    x, y = (np.interp(at, run, line[:, k]) for k in (0, 1))
                    spots.append(
                        (
                            x - reach * np.sin(a),
                            y + reach * np.cos(a),
                            a + (np.pi if lane > 0 else 0),
                        )
                    )
    limit = round(CARS * (n / LAYOUT) ** 2 * rng.uniform(0.8, 1.2))
    taken = []
    for x, y, a in rng.permutation(np.array(spots))[: 2 * limit]:
        if not (0 <= x < n and 0 <= y < n) or free[int(y), int(x)] < 12 or len(taken) >= limit:
            continue
        if taken and np.min(np.sum((np.array(taken) - [x, y]) ** 2, 1)) < 19**2:
            continue
        taken.append((x, y))
        parts.car(s, x, y, a)


def _trees(s: Sheet, avoid: np.ndarray) -> None:
    """Single trees, rows and groves wherever there is neither roof nor carriageway."""
    rng, n = s.rng, s.size
    count = round(TREES * (n / LAYOUT) ** 2 * rng.uniform(0.8, 1.2))
    dense = fractal(rng, n, n, 260, 2)
    x, y = rng.uniform(0, n, (2, 6 * count))
    wish = dense[y.astype(int), x.astype(int)] ** 2 * (avoid[y.astype(int), x.astype(int)] > 4)
    keep = np.argsort(-wish * rng.uniform(0.2, 1, len(x)))[:count]
    ramps = [parts.leaves(s) for _ in range(4)]
    for i in keep:
        if wish[i] > 0:
            near = avoid[int(y[i]), int(x[i])]
            parts.tree(
                s, x[i], y[i], min(rng.uniform(34, 92), 30 + 1.8 * near), ramps[rng.integers(4)]
            )


def render(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One aerial tile: (size, size, 4) uint8 R, G, B, IR and (size, size) uint8 class ids.

    Class ids are those of `scene_aerial_parts`: road 0, building 1, low vegetation 2, tree 3,
    car 4, clutter 5.
    """
    s = Sheet(rng, size)
    _plots(s)
    verge, lines = _roads(s)
    lots = _yards(s, verge)
    blocked = np.maximum(verge > 0.5, (s.label == CLUTTER))
    for x, y, w, h in lots:
        blocked[int(y) : int(y + h), int(x) : int(x + w)] = True
    free = cv2.distanceTransform((~blocked).astype(np.uint8), cv2.DIST_L2, 5)
    _buildings(s, free, lines)
    roofs = s.label == parts.BUILDING
    off_roof = cv2.distanceTransform((~roofs).astype(np.uint8), cv2.DIST_L2, 5)
    _cars(s, lines, lots, off_roof)
    solid = roofs | (parts.stroke(size, lines) > 0.5) | (s.label == CAR)
    solid |= s.label == CLUTTER
    for x, y, w, h in lots:
        solid[int(y) : int(y + h), int(x) : int(x + w)] = True
    _trees(s, cv2.distanceTransform((~solid).astype(np.uint8), cv2.DIST_L2, 5))
    return s.finish(), s.label
