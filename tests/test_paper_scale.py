"""The paper's own sizes, where they can be afforded: `make test-full`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

STEP = """
import json, resource, time, torch
from pathlib import Path
from infoseg.methods.base import DataInfo
from infoseg.methods.registry import METHODS
from infoseg.settings import load_params
from infoseg.views import Views

torch.manual_seed(0)
params = load_params(Path("."), "paper")
settings = params.method("infoseg", "coco_stuff")
assert settings.network.features == 1024 and settings.optimiser.batch == 64
method = METHODS["infoseg"](settings, DataInfo(15, 3, (0.5,) * 3, (0.25,) * 3))
method.to(memory_format=torch.channels_last)
optimiser = torch.optim.Adam(method.parameters(), lr=settings.optimiser.learning_rate, fused=True)
images = torch.rand(64, 3, 128, 128).contiguous(memory_format=torch.channels_last)
began = time.perf_counter()
loss = method.loss(Views(images), torch.Generator().manual_seed(0))
loss.backward()
optimiser.step()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"loss": loss.item(), "bytes": peak, "seconds": time.perf_counter() - began}))
"""


@pytest.mark.slow
def test_a_step_at_the_papers_setting_fits_into_12_gigabytes_on_the_cpu():
    done = subprocess.run([sys.executable, "-c", STEP], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    step = json.loads(done.stdout)
    print(step)
    assert step["bytes"] < 12e9
    # Untrained scores are near 0, where Eq. 7's two terms are log 2 each.
    assert 0.5 < step["loss"] < 3
