"""One thread for every test, so that timings and bytes do not depend on the machine's cores."""

import os
import signal

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
# Nothing of the user's: keys that sign commits, hooks, line ends, a look of figures.
GIT = {"commit.gpgsign": "false", "core.hooksPath": os.devnull, "core.autocrlf": "false"}
os.environ["GIT_CONFIG_COUNT"] = str(len(GIT))
for number, (key, value) in enumerate(GIT.items()):
    os.environ |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
os.environ["MATPLOTLIBRC"] = os.devnull

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)

# A shell starts jobs in the background with it ignored, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """What takes minutes first: the other workers do the rest beside it."""
    items.sort(key=lambda item: (item.path.stem != "test_pipeline", item.path.suffix != ".ipynb"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file's tests stay together and in order, and so do all notebooks, which share their runs.

    By a scheduler of our own, since pytest-xdist 3.8 does not see its groups under pytest 9.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "notebooks" if file.startswith("notebooks/") else file

    return Together(config, log)
