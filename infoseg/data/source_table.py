"""The table of official files, ``sources.yaml``, checked."""

from __future__ import annotations

import functools
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from infoseg.errors import DataError
from infoseg.settings import Positive, Strict


class Address(Strict):
    """Where a file can be had. member: it is this member of the tarball there. mirror: the address
    is not the publisher's."""

    url: str
    member: str | None = None
    mirror: bool = False

    @field_validator("url")
    @classmethod
    def _is_plain_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError("must be http:// or https:// with a host, without user and password")
        return url


class SourceFile(Strict):
    """One official file; ``sources.yaml`` says what each key means."""

    name: str
    urls: tuple[Address, ...]
    bytes: Positive | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    contains: tuple[str, ...] = ()
    trees: tuple[tuple[str, ...], ...] = ()
    inside: str | None = None
    instead: tuple[str, ...] = ()
    licence: str
    terms: str
    ask: str

    @model_validator(mode="after")
    def _can_be_verified(self) -> SourceFile:
        for name in (self.name, self.inside or "x", *self.instead):
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"{name} leads out of its folder")
        if not (self.sha256 or self.md5 or self.contains):
            raise ValueError(f"{self.name} needs sha256, md5 or contains")
        members = any(address.member for address in self.urls)
        if members and not (self.sha256 and self.bytes):
            raise ValueError(f"{self.name}: a member of a tarball needs sha256 and bytes")
        return self

    def named(self, name: str) -> SourceFile:
        """An archive that serves instead, of which no more is known than what it contains."""
        unknown = {"urls": (), "bytes": None, "sha256": None, "md5": None, "trees": ()}
        return self.model_copy(update={"name": name, "instead": ()} | unknown)


class Group(Strict):
    """Files that belong together. needs: groups without which they are of no use. folders: where
    unpacked files may lie below a raw folder, besides the group's own name."""

    title: str
    needs: tuple[str, ...]
    folders: tuple[str, ...]
    files: tuple[SourceFile, ...]


class Sources(Strict):
    """The whole table."""

    groups: dict[str, Group]

    @model_validator(mode="after")
    def _groups_exist(self) -> Sources:
        for name, group in self.groups.items():
            if unknown := set(group.needs) - self.groups.keys():
                raise ValueError(f"{name}.needs: there is no group {sorted(unknown)[0]}")
        return self

    def with_needs(self, group: str) -> list[str]:
        """A group's name after those of the groups it needs."""
        names = [n for need in self.groups[group].needs for n in self.with_needs(need)]
        return list(dict.fromkeys([*names, group]))


TABLE = Path(__file__).with_name("sources.yaml")


@functools.cache
def load_sources(file: Path = TABLE) -> Sources:
    """Return the table of official files; DataError if it is not as it must be."""
    try:
        return Sources.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise DataError(f"is no table of sources: {error}", file=file) from None
