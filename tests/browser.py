"""A JupyterLab and a headless Chromium that opens it, for tests of what a reader sees.

Chromium is told what to do over its DevTools protocol; JupyterLab runs with its application exposed
to the page, so that commands of its menus can be given by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def jupyterlab(folder: Path, scratch: Path) -> Iterator[str]:
    """JupyterLab at work in `folder`; yields its address, with a free port and no token."""
    variables = {"JUPYTER_CONFIG_DIR": str(scratch / "config"), "OMP_NUM_THREADS": "1"}
    options = ["--no-browser", "--allow-root", "--port=0", "--IdentityProvider.token="]
    command = [sys.executable, "-m", "jupyterlab", *options, "--LabApp.expose_app_in_browser=True"]
    log = scratch / "lab.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | variables, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        pattern = r"http://(?:localhost|127\.0\.0\.1):(\d+)/lab"
        found = _wait(lambda: re.search(pattern, log.read_text()), 60, "JupyterLab")
        yield f"http://127.0.0.1:{found[1]}/lab"
    finally:
        process.terminate()
        process.wait(30)


def _wait(question: Any, seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: nothing within {seconds:g} s")
        time.sleep(0.2)
    return answer


class Page:
    """One page of a headless Chromium."""

    def __init__(self, profile: Path):
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += [
            "--remote-debugging-port=0",
            "--remote-allow-origins=*",
            f"--user-data-dir={profile}",
        ]
        self.process = subprocess.Popen(
            [CHROMIUM, *options, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        place = profile / "DevToolsActivePort"
        _wait(lambda: place.exists() and len(place.read_text().split()) > 1, 60, "Chromium")
        listed = f"http://127.0.0.1:{place.read_text().split()[0]}/json"

        def page() -> str | None:
            with urllib.request.urlopen(listed) as answer:
                found = [one for one in json.load(answer) if one["type"] == "page"]
            return found[0]["webSocketDebuggerUrl"] if found else None

        self.socket = websocket.create_connection(_wait(page, 30, "a page"), timeout=120)
        self.count = 0

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise's, once it is kept."""
        found = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float) -> Any:
        """Until an expression is true; of one that cannot be evaluated yet, until it can."""

        def question() -> Any:
            with contextlib.suppress(RuntimeError):
                return self.ask(expression)

        return _wait(question, seconds, expression)

    def open(self, address: str) -> None:
        size = {"width": 1280, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        # A page without focus has no current widget.
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)
        self.send("Page.navigate", url=address)
