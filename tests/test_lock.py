"""requirements.lock: each pin is what is installed, and every supported Python may have it."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

LOCK = Path(__file__).parent.parent / "requirements.lock"
PINS = [Requirement(line) for line in LOCK.read_text().split()]
#: The oldest Python (Debian 12 has 3.11.2) and the newest; the first of each, as pip compares them.
PYTHONS = ("3.11.0", "3.13.0")


@pytest.mark.parametrize("pin", PINS, ids=str)
def test_a_pin_is_installed_and_every_supported_python_may_have_it(pin):
    try:
        found = distribution(pin.name)
    except PackageNotFoundError:
        pytest.fail(f"{pin} is not installed")
    # A local build, 2.13.0+cpu, is the version's.
    assert pin.specifier.contains(Version(found.version).public, prereleases=True), (
        f"{pin}: {found.version} is installed"
    )
    wanted = found.metadata["Requires-Python"] or ""
    refused = [python for python in PYTHONS if not SpecifierSet(wanted).contains(python)]
    assert not refused, f"{pin} requires Python {wanted}, which {', '.join(refused)} is not"
