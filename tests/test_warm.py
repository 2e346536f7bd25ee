"""Forked stages: they are what was asked for, they end when they should, and nothing needs them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infoseg import warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages are forked on Linux alone")

#: A server without libraries, whose tasks are probes.
SERVER = """
import os, sys, time, socket
from pathlib import Path
from infoseg import warm

def probe(arguments):
    print(arguments, os.getcwd(), os.environ.get("PROBE"), sys.stdin.read())
    print("to stderr", file=sys.stderr)
    return int(arguments[0])

def linger(arguments):
    Path(arguments[0]).write_text(str(os.getpid()))
    time.sleep(60)
    return 0

warm.LIBRARIES = ()
warm.TASKS = {"probe": probe, "linger": linger, "raise": lambda arguments: 1 / 0}
if sys.argv[2:]:
    warm._code_state = lambda: [0, 0]
sys.exit(warm.serve(socket.socket(fileno=int(sys.argv[1]))))
"""
ASK = """
import sys
from infoseg import warm
print("answer", warm.forward(sys.argv[1], sys.argv[2:]))
"""


@contextlib.contextmanager
def serving(folder: Path, *words: str):
    """A probing server; yields the environment to ask it in, and its process."""
    import socket

    place = str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(listener.fileno()), *words],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
    try:
        yield {**os.environ, warm.VARIABLE: place}, process
    finally:
        process.stdin.close()
        assert process.wait(20) == 0


def asking(environment: dict, *words: str, **options) -> subprocess.Popen:
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    command = [sys.executable, "-c", ASK, *words]
    return subprocess.Popen(command, env=environment, text=True, **pipes, **options)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("s")) as (environment, _):
        yield environment


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def within(seconds: float, question) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if question():
            return True
        time.sleep(0.05)
    return False


def test_a_fork_takes_the_place_of_who_asked(server, tmp_path):
    asked = asking(server | {"PROBE": "yes"}, "probe", "3", "a b", cwd=tmp_path)
    out, err = asked.communicate("typed")
    assert out == f"['3', 'a b'] {tmp_path} yes typed\nanswer 3\n"
    assert err == "to stderr\n"


def test_what_a_fork_raises_is_seen_and_counts_as_failure(server):
    out, err = asking(server, "raise").communicate()
    assert out == "answer 1\n"
    assert "ZeroDivisionError" in err


def test_forks_run_side_by_side_and_a_killed_one_is_a_failure(server, tmp_path):
    files = [tmp_path / "one", tmp_path / "two"]
    asked = [asking(server, "linger", str(file)) for file in files]
    assert within(20, lambda: all(file.exists() and file.read_text() for file in files))
    os.kill(int(files[0].read_text()), signal.SIGKILL)
    assert asked[0].communicate()[0] == f"answer {-signal.SIGKILL}\n"
    assert asked[1].poll() is None
    asked[1].kill()
    asked[1].communicate()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_fork_ends_with_who_asked(server, tmp_path, how):
    asked = asking(server, "linger", str(tmp_path / "pid"))
    assert within(20, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    asked.send_signal(how)
    assert asked.wait(10) == -how
    assert within(10, lambda: not alive(pid))
    assert "Traceback" not in asked.communicate()[1]


def test_a_fork_ends_when_the_parent_of_who_asked_does(server, tmp_path):
    # DVC is killed: its stage must not go on and write where another run writes.
    command = f"[sys.executable, '-c', {ASK!r}, *sys.argv[1:]]"
    script = f"import subprocess, sys; subprocess.run({command})"
    outer = subprocess.Popen(
        [sys.executable, "-c", script, "linger", str(tmp_path / "pid")], env=server
    )
    assert within(20, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    outer.kill()
    outer.wait()
    assert within(10, lambda: not alive(pid))


def test_without_a_server_nothing_is_forwarded(monkeypatch, tmp_path):
    monkeypatch.delenv(warm.VARIABLE, raising=False)
    assert warm.forward("probe", ["0"]) is None
    monkeypatch.setenv(warm.VARIABLE, str(tmp_path / "nothing"))
    handler = signal.getsignal(signal.SIGINT)
    assert warm.forward("probe", ["0"]) is None
    assert signal.getsignal(signal.SIGINT) is handler


def test_code_edited_since_the_server_started_is_not_run_by_it(tmp_path):
    with serving(tmp_path, "older") as (environment, _):
        assert asking(environment, "probe", "0").communicate("")[0] == "answer None\n"


def test_the_server_ends_with_the_pipeline_and_leaves_the_environment_alone(monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", "/elsewhere")
    before = dict(os.environ)
    with warm.server():
        folder = Path(os.environ[warm.VARIABLE]).parent
        assert os.environ["JUPYTER_PATH"] == f"{folder}{os.pathsep}/elsewhere"
        done = subprocess.run(
            [sys.executable, "-m", "infoseg.warm", "dvc", "--version"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert dict(os.environ) == before
    assert not folder.exists()
