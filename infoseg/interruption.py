"""SIGTERM and SIGINT during a training: finish the step, keep a checkpoint, then obey."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Ctrl-C that was obeyed once the state was kept; its text says where the training is."""


class Signals:
    """Within this context, a first SIGTERM or SIGINT is only remembered.

    So is every further SIGTERM: schedulers send it to a notebook and its kernel, each of which
    tells the training. Another Ctrl-C is a person who does not want to wait, and obeyed at once.
    Outside of the main thread nothing changes, since Python handles signals there alone.
    """

    KINDS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for kind in self.KINDS:
                self._before[kind] = signal.signal(kind, self._remember)
        return self

    def _remember(self, kind: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked = kind
        elif kind == signal.SIGINT:
            self._restore()
            os.kill(os.getpid(), kind)

    def _restore(self) -> None:
        while self._before:
            kind, handler = self._before.popitem()
            # None: a handler that was not set from Python.
            signal.signal(kind, handler if handler is not None else signal.SIG_DFL)

    def __exit__(self, *_: object) -> None:
        self._restore()

    def obey(self, text: str) -> None:
        """End as the signal asks: with `Interrupted` for Ctrl-C, by the signal itself otherwise.

        text: shown to the user, one line.
        """
        kind = self.asked
        self._restore()
        if kind == signal.SIGINT:
            raise Interrupted(text)
        print(f"infoseg: {text}", file=sys.stderr, flush=True)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
