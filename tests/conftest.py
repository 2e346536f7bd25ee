"""One thread for every test, so that timings and bytes do not depend on the machine's cores."""

import os
import signal

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)

# A shell starts jobs in the background with it ignored, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """What takes minutes first: the other workers do the rest beside it.

    A file's tests stay together and in order, and notebooks too: they share what they make.
    """
    for item in items:
        notebook = item.path.suffix == ".ipynb"
        item.add_marker(pytest.mark.xdist_group("notebooks" if notebook else item.path.stem))
    items.sort(key=lambda item: (item.path.stem != "test_pipeline", item.path.suffix != ".ipynb"))
