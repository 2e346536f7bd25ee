"""Stages without their start-up: one process loads the libraries, and every stage is a fork of it.

A stage of seconds spends most of them on loading torch, SciPy and seaborn, twice: for papermill and
for its kernel. `make repro` starts a server that has them loaded; `python -m infoseg.notebooks run`
and the kernels papermill asks for then hand their work to a fork of it. Where there is no server,
or the package was edited since it started, everything runs as it would without this module.

    python -m infoseg.warm serve SOCKET         until stdin closes
    python -m infoseg.warm kernel -f FILE       a Jupyter kernel, forked if there is a server
    python -m infoseg.warm dvc WORDS            DVC, forked likewise

Only the standard library is imported at the top: what is to be fast must not load anything itself.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

#: Where the server listens; set for the pipeline's own processes alone.
VARIABLE = "INFOSEG_WARM"
#: A scheduler's command before every training, `srun` say; see docs/cluster.md.
LAUNCHER = "INFOSEG_LAUNCHER"
#: What notebooks and papermill load; not the inline backend, which each kernel sets up for itself.
LIBRARIES = (
    "dvc.commands.repro",
    "dvc.repo.reproduce",
    "infoseg.notebooks",
    "infoseg.results",
    "infoseg.reporting.sections",
    "ipykernel.kernelapp",
    "jupyter_client.asynchronous",
    "papermill",
    "sklearn.cluster",
)


# ---- the asking side -----------------------------------------------------------------------------


def forward(task: str, arguments: Sequence[str]) -> int | None:
    """Have a fork of the server do a task; returns its exit status, or None without a server.

    task: a key of `TASKS`. The fork has this process's files, folder and environment, and ends when
    this process does, however it ends.
    """
    place = os.environ.get(VARIABLE)
    # What a scheduler launched runs inside its job, whose limits and signals do not reach a fork.
    if not place or (os.environ.get(LAUNCHER) and task != "dvc"):
        return None
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(place)
        request = {"task": task, "arguments": list(arguments), "cwd": os.getcwd()}
        text = json.dumps(request | {"environment": dict(os.environ), "code": _code_state()})
        socket.send_fds(connection, [len(text.encode()).to_bytes(8)], [0, 1, 2])
        connection.sendall(text.encode())
        if connection.recv(1) != b"y":  # edited since the server started
            return None
    except OSError:
        return None
    if task != "kernel":
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback: waiting is all that is done
    parent = os.getppid()
    while not select.select([connection], [], [], 1.0)[0]:
        if os.getppid() != parent:  # whoever asked is gone: end, and the fork with us
            return 1
    status = connection.recv(4)
    return int.from_bytes(status, signed=True) if len(status) == 4 else 1


def _code_state() -> list[int]:
    """Changes when a module of the package is edited, added or removed."""
    files = [path.stat().st_mtime_ns for path in Path(__file__).parent.rglob("*.py")]
    return [len(files), max(files)]


@contextlib.contextmanager
def server() -> Iterator[None]:
    """Run a server for the time of the block, for processes started in it to ask.

    It does not wait for the server to be ready: who asks earlier is answered later. On Linux alone:
    on macOS a fork of a process with such libraries is not safe, and stages start as usual.
    """
    if sys.platform != "linux":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="infoseg-") as folder:
        place = f"{folder}/socket"
        kernel = {
            "argv": [sys.executable, "-m", "infoseg.warm", "kernel", "-f", "{connection_file}"],
            "display_name": "Python 3",
            "language": "python",
        }
        spec = Path(folder) / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps(kernel))
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(place)
        except OSError:  # TMPDIR's name is longer than a socket's may be
            yield
            return
        listener.listen(64)
        paths = [folder, os.environ.get("JUPYTER_PATH", "")]
        before = dict(os.environ)
        os.environ[VARIABLE] = place
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, paths))
        process = subprocess.Popen(
            [sys.executable, "-m", "infoseg.warm", "serve", str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            # As ipykernel sets it, too late for a matplotlib that is loaded already.
            env=os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
            # Ctrl-C is for those who asked; their forks end with them.
            start_new_session=True,
        )
        listener.close()
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
            process.communicate()  # closes its stdin, which ends it


# ---- the server ----------------------------------------------------------------------------------


def serve(listener: socket.socket) -> int:
    """Answer until stdin closes. Returns the exit status of the server, or of a fork's task."""
    code = _code_state()
    for name in LIBRARIES:
        __import__(name)
    gc.collect()
    gc.freeze()  # forks share what is never touched
    bell, ringer = socket.socketpair()
    ringer.setblocking(False)
    bell.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ringer.fileno())
    clients: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listener, bell, sys.stdin], [], [])
        if bell in ready:
            bell.recv(4096)
            _tell_the_ended(clients)
        if listener in ready:
            connection, _ = listener.accept()
            try:
                request, files = _read_request(connection)
            except (OSError, ValueError):
                connection.close()
                continue
            fresh = request["code"] == code
            connection.sendall(b"y" if fresh else b"n")
            child = os.fork() if fresh else None
            if child == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for other in (listener, bell, ringer, *clients.values()):
                    other.close()
                _end(_become(request, files, connection))
            for file in files:
                os.close(file)
            if child is None:
                connection.close()
            else:
                clients[child] = connection
        if sys.stdin in ready:
            return 0


def _read_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    head, files, _, _ = socket.recv_fds(connection, 8, 3)
    length, text = int.from_bytes(head), b""
    while len(text) < length:
        part = connection.recv(length - len(text))
        if not part:
            raise ValueError("the asking process is gone")
        text += part
    return json.loads(text), files


def _tell_the_ended(clients: dict[int, socket.socket]) -> None:
    """Report to their askers the forks that have ended."""
    while clients:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        with clients.pop(child) as connection, contextlib.suppress(OSError):
            connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, signed=True))


def _become(request: dict[str, Any], files: list[int], connection: socket.socket) -> int:
    """In a fork: take the asking process's place and do its task."""
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    return TASKS[request["task"]](request["arguments"])


def _end(status: int) -> NoReturn:
    """End a fork without taking apart what was loaded for it, a second's work."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end_with(connection: socket.socket) -> None:
    """Wait for the asking process to end before its task does, and end too."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)


# ---- tasks ---------------------------------------------------------------------------------------


def _notebooks(arguments: Sequence[str]) -> int:
    from infoseg.notebooks import command

    return command(arguments)


def _kernel(arguments: Sequence[str]) -> int:
    import pandas
    from ipykernel.kernelapp import IPKernelApp

    pandas.set_option("display.max_columns", 20)  # it took the server for a terminal
    sys.argv = ["ipykernel_launcher", *arguments]
    # A kernel watches its parent, which is the server here.
    IPKernelApp.launch_instance(list(arguments), parent_handle=os.getppid())
    return 0


def _dvc(arguments: Sequence[str]) -> int:
    from dvc.cli import main

    from infoseg.lock_entries import by_entries

    with by_entries():
        return main(list(arguments))


TASKS = {"notebooks": _notebooks, "kernel": _kernel, "dvc": _dvc}


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["serve", number]:
            return serve(socket.socket(fileno=int(number)))
        case ["kernel", *rest]:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # papermill interrupts what it ends
            status = forward("kernel", rest)
            if status is None:
                os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", *rest])
            return status
        case ["dvc", *rest]:
            status = forward("dvc", rest)
            if status is None:
                os.execv(sys.executable, [sys.executable, "-m", "dvc", *rest])
            return status
        case _:
            print(__doc__)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
