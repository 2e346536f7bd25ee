"""Signals that end what we do; a notebook's kernel: how it is told to stop, and why it died."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from infoseg.errors import memory_advice

#: Seconds a kernel has to end in once it is told to: a training finishes its step and keeps a
#: checkpoint. Schedulers give 30.
GRACE = 25.0


class Stopped(KeyboardInterrupt):
    """A notebook was stopped by a signal, `kind`."""

    def __init__(self, kind: int):
        super().__init__(signal.Signals(kind).name)
        self.kind = kind


@contextmanager
def raising_sigterm() -> Iterator[None]:
    """SIGTERM raises `Stopped` within this context, so that what is half-written is removed."""

    def stop(kind: int, frame: FrameType | None) -> None:
        raise Stopped(kind)

    threaded = threading.current_thread() is not threading.main_thread()
    before = None if threaded else signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if not threaded:
            signal.signal(signal.SIGTERM, before)


class Kernel:
    """The kernel of one execution, once it is started.

    cell: number of the code cell it is at. asked: the signal that stopped it.
    """

    def __init__(self) -> None:
        self.cell = 0
        self.asked: int | None = None
        self._process: subprocess.Popen | None = None

    def options(self) -> dict[str, Any]:
        """What papermill hands on to nbclient."""
        from jupyter_client import AsyncKernelManager  # deferred, with papermill

        kernel = self

        class Manager(AsyncKernelManager):
            async def start_kernel(self, **options: Any) -> None:
                await super().start_kernel(**options)
                kernel._process = self.provisioner.process

        def count(cell: Any, cell_index: int) -> None:
            kernel.cell += 1

        return {"kernel_manager_class": Manager, "on_cell_execute": count}

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Within this context, signals that end a process end the kernel first.

        nbclient has no handlers of its own here, and an exception raised somewhere inside of it
        ends in pages of tracebacks. Instead the kernel is told to end, which nbclient notices like
        any other death, and clears up after. Without a kernel, raises `Stopped` at once.
        """
        before = {}
        if threading.current_thread() is threading.main_thread():
            for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # One that is ignored (`nohup`, jobs in the background) stays so.
                if signal.getsignal(kind) is not signal.SIG_IGN:
                    before[kind] = signal.signal(kind, self._stop)
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def _stop(self, kind: int, frame: FrameType | None) -> None:
        first, self.asked = self.asked is None, self.asked or kind
        if self._process is None or self._process.poll() is not None:
            raise Stopped(self.asked)
        if first:
            self._process.terminate()
            timer = threading.Timer(GRACE, self._process.kill)
            timer.daemon = True
            timer.start()
        elif kind == signal.SIGINT:  # Ctrl-C once more; SIGTERM may come from several sides
            self._process.kill()

    def death(self) -> str:
        """Where and how it died, and what may help."""
        code = self._process.poll() if self._process else None
        if code is not None and code > 192:  # told by a fork of `infoseg.warm`, as a status
            code -= 256
        if self._process is None or not self.cell:
            return "the kernel did not start. See what it said above"
        where = f"the kernel died in cell {self.cell}"
        if code is None or code >= 0:
            return f"{where}. See what it said above"
        name = signal.Signals(-code).name
        advice = memory_advice() if name == "SIGKILL" else "See what it said above"
        return f"{where}, of {name}. {advice}"
