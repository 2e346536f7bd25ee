"""The numbers the paper prints, read from `published.csv` and `published_table2.csv`.

Keys are the paper's own titles of rows and columns, so that a number can be checked by eye.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from infoseg.errors import DataError

FOLDER = Path(__file__).parent


@cache
def _read(file: str, row: str, column: str) -> dict[tuple[str, str], float | None]:
    with open(FOLDER / file, newline="", encoding="utf-8") as lines:
        return {
            (line[row], line[column]): float(line["pa"]) if line["pa"] else None
            for line in csv.DictReader(lines)
        }


def published(method_row: str, dataset_title: str) -> float | None:
    """PA in percent that Table 1 prints for a row and a column.

    None where it prints a dash, and for a data set the paper does not have.
    Raises DataError for a row the paper does not have: nobody names one except by mistake.
    """
    table = _read("published.csv", "method", "dataset")
    if (method_row, dataset_title) in table:
        return table[method_row, dataset_title]
    rows = list(dict.fromkeys(row for row, _ in table))
    if method_row not in rows:
        raise DataError(
            f"the paper's Table 1 has no row '{method_row}'",
            file=FOLDER / "published.csv",
            advice=f"Set paper_row to null or to one of: {', '.join(rows)}",
        )
    return None


def published_table2(measure: str, assignment: str) -> float | None:
    """PA in percent that Table 2 prints (COCO-Stuff-3).

    measure: IIC-MI, DV or JSD. assignment: "Hard Assignment", "Soft Assignment", or "-" (IIC-MI).
    None for a combination the paper does not have.
    """
    return _read("published_table2.csv", "measure", "assignment").get((measure, assignment))
