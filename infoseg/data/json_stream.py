"""The lists of a large JSON file, one element at a time.

The standard library's decoder does the decoding, so values are those of ``json.loads``; what is
added is where one element ends and the next begins. COCO's instances_train2017.json (470 MB) takes
3 GB as a whole and 60 MB this way, in less time. ijson also streams, but follows one list in a
pass, takes longer for it, and cannot tell an empty list from a missing one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import IO, Any

CHUNK = 2**20
"""Characters read at a time."""
LIMIT = 64 * 2**20
"""Characters one element may have; damaged text is not followed further."""

_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"[-+.eE0-9]*")
_decode = json.JSONDecoder().raw_decode


def elements(stream: IO[str], wanted: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield (key, element) for the lists that the object in ``stream`` has under ``wanted`` keys.

    In the file's order. Raises, at the latest after the last element, ValueError for what is not
    one JSON object, or one with a key that occurs twice; TypeError for a wanted key without a list;
    KeyError for one that is not there.
    """
    text = _Text(stream)
    seen: set[str] = set()
    text.take("{")
    end = text.peek() == "}" and text.take("}")
    while not end:
        key = text.value()
        if not isinstance(key, str):
            raise ValueError("no key where one has to be")
        if key in seen:
            raise ValueError(f"the key {key!r} occurs twice")
        seen.add(key)
        text.take(":")
        if text.peek() == "[":
            for element in _list(text):
                if key in wanted:
                    yield key, element
        else:
            text.value()
            if key in wanted:
                raise TypeError(f"{key!r} is not a list")
        end = text.take(",}") == "}"
    if text.peek():
        raise ValueError("text follows the end")
    for key in wanted:
        if key not in seen:
            raise KeyError(key)


def _list(text: _Text) -> Iterator[Any]:
    text.take("[")
    end = text.peek() == "]" and text.take("]")
    while not end:
        yield text.value()
        end = text.take(",]") == "]"


class _Text:
    """A stream's text from where it was read to; only the part at hand is in memory."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._text, self._at = stream, "", 0

    def peek(self) -> str:
        """Return the next character that is not blank; at the end none."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text) or not self._read_on():
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """Go past the next character, which has to be one of those expected."""
        found = self.peek()
        if not found or found not in expected:
            raise ValueError(f"{found!r} in place of {' or '.join(expected)}" if found else "ends")
        self._at += 1
        return found

    def value(self) -> Any:
        """Decode the next value, reading on as long as it is not whole."""
        self.peek()
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except RecursionError:
                raise ValueError("is nested too deeply") from None
            except ValueError:
                if len(self._text) - self._at > LIMIT or not self._read_on():
                    raise
                continue
            # A number may go on where the text at hand ends, even after "0." was read as 0.
            number = _NUMBER.match(self._text, self._at)
            seen = max(end, number.end() if number else 0)
            if seen < len(self._text) or not self._read_on():
                self._at = end
                return value

    def _read_on(self) -> bool:
        """Read at least as much again, so that a long value is decoded few times."""
        more = self._stream.read(max(CHUNK, len(self._text) - self._at))
        if more:
            self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)
