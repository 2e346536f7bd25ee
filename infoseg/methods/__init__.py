"""The rows of Table 1, IIC-MI of Table 2, and any other: `METHODS` has every `kind` in `conf/`.

A new method is a file here: each class whose settings are of a kind of its own is found.
"""

from __future__ import annotations

import importlib
import pkgutil
import typing

from infoseg.methods.base import DataInfo, Method

__all__ = ["METHODS", "DataInfo", "Method"]


def _kind(method: type[Method]) -> str | None:
    """The one `kind` a method's settings allow; None where they belong to no kind."""
    field = method.Settings.model_fields["kind"] if hasattr(method, "Settings") else None
    kinds = typing.get_args(field.annotation) if field else ()
    return kinds[0] if len(kinds) == 1 else None


def _found() -> dict[str, type[Method]]:
    methods: dict[str, type[Method]] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{name}")
        for value in vars(module).values():
            ours = isinstance(value, type) and issubclass(value, Method)
            if ours and value.__module__ == module.__name__ and (kind := _kind(value)):
                if kind in methods:
                    raise TypeError(f"{value} and {methods[kind]} are both of kind '{kind}'")
                methods[kind] = value
    return methods


METHODS = _found()
