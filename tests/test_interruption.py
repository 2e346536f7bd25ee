"""Signals during a training: the first one is kept for the end of the step."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from infoseg.interruption import Interrupted, Signals


@pytest.fixture(autouse=True)
def handlers():
    """Whatever started the tests, Ctrl-C raises KeyboardInterrupt in them."""
    before = {kind: signal.getsignal(kind) for kind in Signals.KINDS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


def test_sigterm_is_remembered_however_often_it_comes():
    with Signals() as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.asked == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("first", Signals.KINDS)
def test_a_second_ctrl_c_does_not_wait(first):
    with pytest.raises(KeyboardInterrupt) as caught, Signals() as signals:
        os.kill(os.getpid(), first)
        assert signals.asked == first
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on")
    assert not isinstance(caught.value, Interrupted)


def test_the_first_signal_decides_how_it_ends():
    with pytest.raises(Interrupted, match="stopped at step 3"), Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        signals.obey("stopped at step 3")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_changes_outside_of_the_main_thread():
    found = []

    def inside():
        with Signals() as signals:
            found.append((signals.asked, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [(None, before)]
