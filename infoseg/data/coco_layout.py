"""Where COCO 2017's files lie below the raw folders or in their archives, and IIC's id lists."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources.abc import Traversable

from infoseg.data.raw import holds, read_all
from infoseg.errors import DataError

SPLITS = ("train2017", "val2017")

IIC_LISTS = {
    "5f78b43a1ad7408f590f0404ea86cdfc55e3a991d748a9cb64e5f86663541a6b":
        ("stuff3", "train2017", 35_228),
    "b5b09cbb5258417a40c7a57dfe65f6be455fa64d5a14b6a93bda91642d431fce":
        ("stuff3", "val2017", 1_432),
    "3b837594a81880a70f177afab906fc45147d8b9c2c4f51132f784e41941812f9":
        ("stuff15", "train2017", 49_629),
    "7c629734c88f1a74bba6311e01d4d9fe976df84f07cb4fc86452ce5116e51655":
        ("stuff15", "val2017", 2_175),
}  # fmt: skip
"""Variant, split and number of ids of IIC's four published lists, by the SHA-256 of the file."""

IIC_TOTALS = {"stuff15": 51_804, "stuff3": 36_660}
"""Images of both splits together: the batch counts in IIC's logs."""

LISTS = {"stuff15": "Coco164kFull_Stuff_Coarse_7.txt", "stuff3": "Coco164kFew_Stuff_6.txt"}
"""IIC's file names of the lists."""

_LIST_LIMIT = 2**26
"""Bytes that an id list may have; the longest of IIC's has 645,177."""

_LIST_AGAIN = "Use IIC's list as published"


def read_id_list(file: Traversable) -> list[str]:
    """Return the image ids of a curated list, one per line, in its order.

    Windows line ends, blank lines and a byte order mark do no harm. Raises DataError for a missing
    list, a line that is no id, an id that occurs twice.
    """
    text = read_all(file, _LIST_LIMIT).decode("utf-8-sig", errors="replace")
    ids = text.split()
    wrong = next((i for i in ids if not (i.isascii() and i.isdecimal())), None)
    if wrong is not None:
        raise DataError(f"{wrong[:40]!r} is not a COCO image id", file=file, advice=_LIST_AGAIN)
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        repeated = next(i for i in ids if i in seen or seen.add(i))
        raise DataError(f"the id {repeated} occurs twice", file=file, advice=_LIST_AGAIN)
    return ids


def read_iic_lists(
    files: dict[str, Traversable], variant: str
) -> tuple[dict[str, list[str]], bool]:
    """Return the ids of every split, and whether the lists are those that IIC published.

    files: the list of each split. Raises DataError as ``read_id_list`` does, for an id in both
    splits, for a published list in the place of another, and if the published lists do not give
    the published numbers of ids.
    """
    ids = {split: read_id_list(file) for split, file in files.items()}
    genuine = True
    for split, file in files.items():
        digest = hashlib.sha256(read_all(file, _LIST_LIMIT)).hexdigest()
        if digest not in IIC_LISTS:
            genuine = False
            continue
        *its, published = IIC_LISTS[digest]
        if its != [variant, split]:
            raise DataError(
                f"is IIC's list for {', '.join(its)}, not for {variant}, {split}",
                file=file,
                advice="Put each list back under its own name",
            )
        _expect(len(ids[split]), published, file)
    train, val = SPLITS
    if both := set(ids[train]) & set(ids[val]):
        raise DataError(
            f"the id {min(both)} is in the list of {train}, too",
            file=files[val],
            advice=_LIST_AGAIN,
        )
    if genuine:
        _expect(len(ids[train]) + len(ids[val]), IIC_TOTALS[variant], files[train])
    return ids, genuine


def _expect(found: int, published: int, file: Traversable) -> None:
    if found != published:
        raise DataError(f"{found} ids were read instead of the published {published}", file=file)


def find_file(places: Sequence[Traversable], *paths: str) -> Traversable | None:
    """Return the first file there is at one of ``paths`` below one of the places."""
    return next((f for p in places for path in paths if (f := _at(p, path)).is_file()), None)


def _at(place: Traversable, path: str) -> Traversable:
    for part in path.split("/"):
        place = place / part
    return place


def id_list(places: Sequence[Traversable], split: str, name: str) -> Traversable:
    """Return the file of an id list; DataError if there is none."""
    found = find_file(places, f"curated/{split}/{name}", f"{split}/{name}")
    if found is None:
        raise DataError(
            "id list not found",
            file=places[0] / "curated" / split / name,
            advice="Put IIC's curated/ folder into the raw folder",
        )
    return found


def image_folder(places: Sequence[Traversable], split: str) -> Traversable:
    """Return the folder of a split's pictures, a real one or one in an archive.

    Folders go before archives, and one with pictures in it before one without. DataError if there
    is none.
    """
    folders = [
        folder
        for place in places
        for path in (f"images/{split}", split)
        if (folder := _at(place, path)).is_dir()
    ]
    if not folders:
        raise DataError(
            f"neither images/{split} nor {split} nor {split}.zip is there",
            file=places[0],
            advice=f"Put COCO's {split}.zip there, or unpack it into images/",
        )
    return next((folder for folder in folders if holds(folder, ".jpg")), folders[0])


def map_folder(places: Sequence[Traversable], split: str) -> Traversable:
    """Return the folder of a split's stuff maps, a real one or one in an archive.

    DataError if none holds a PNG; the pictures' own folder, or archive, usually does not.
    """
    for place in places:
        for path in (f"stuffthingmaps/{split}", f"annotations/{split}", split):
            folder = _at(place, path)
            if folder.is_dir() and holds(folder, ".png"):
                return folder
    raise DataError(
        f"no label maps in stuffthingmaps/{split}, annotations/{split} or {split}, and no "
        "stuffthingmaps_trainval2017.zip",
        file=places[0],
        advice="Put stuffthingmaps_trainval2017.zip there, or unpack it into stuffthingmaps/",
    )
