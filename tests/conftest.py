"""One thread for every test, so that timings and bytes do not depend on the machine's cores."""

import os
import signal

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import torch  # noqa: E402

torch.set_num_threads(1)

# A shell starts jobs in the background with it ignored, and what tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """The pipeline's minutes first: the other workers do the rest beside them."""
    items.sort(key=lambda item: item.path.stem != "test_pipeline")
