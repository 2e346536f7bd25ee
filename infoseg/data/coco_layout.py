"""Where COCO 2017's files lie below a raw folder, and IIC's id lists."""

from __future__ import annotations

from pathlib import Path

from infoseg.errors import DataError

SPLITS = ("train2017", "val2017")

IIC_LISTS = {
    "5f78b43a1ad7408f590f0404ea86cdfc55e3a991d748a9cb64e5f86663541a6b",
    "b5b09cbb5258417a40c7a57dfe65f6be455fa64d5a14b6a93bda91642d431fce",
    "3b837594a81880a70f177afab906fc45147d8b9c2c4f51132f784e41941812f9",
    "7c629734c88f1a74bba6311e01d4d9fe976df84f07cb4fc86452ce5116e51655",
}
"""SHA-256 of IIC's four published lists, so that a prepared data set can say whose ids it has."""


def read_id_list(file: Path) -> list[str]:
    """Return the image ids of a curated list, one per line, in its order.

    Raises DataError for a missing list, a line that is no id, or an id that occurs twice.
    """
    if not file.is_file():
        raise DataError(
            "id list not found", file=file, advice="Put IIC's curated/ folder into the raw folder"
        )
    ids = file.read_text(encoding="utf-8", errors="replace").split()
    wrong = next((image_id for image_id in ids if not image_id.isdecimal()), None)
    if wrong is not None:
        raise DataError(f"{wrong!r} is not a COCO image id", file=file)
    if len(set(ids)) != len(ids):
        repeated = next(image_id for i, image_id in enumerate(ids) if image_id in ids[:i])
        raise DataError(f"the id {repeated} occurs twice", file=file)
    return ids


def existing(raw: Path) -> Path:
    """Return ``raw``, or raise DataError if there is no such folder."""
    if not raw.is_dir():
        raise DataError("raw folder not found", file=raw, advice="Check the path of the raw data")
    return raw


def image_folder(raw: Path, split: str) -> Path:
    """Return the folder of a split's pictures; DataError if there is none."""
    for folder in (raw / "images" / split, raw / split):
        if folder.is_dir():
            return folder
    raise DataError(
        f"neither images/{split} nor {split} is there",
        file=raw,
        advice=f"Unpack COCO's {split}.zip into images/",
    )


def map_folder(raw: Path, split: str) -> Path:
    """Return the folder of a split's stuff maps; DataError if none holds a PNG."""
    for folder in (raw / "stuffthingmaps" / split, raw / "annotations" / split, raw / split):
        if folder.is_dir() and next(folder.glob("*.png"), None):
            return folder
    raise DataError(
        f"no label maps in stuffthingmaps/{split}, annotations/{split} or {split}",
        file=raw,
        advice="Unpack stuffthingmaps_trainval2017.zip into stuffthingmaps/",
    )
