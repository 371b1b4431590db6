"""A second run for tests of real processes, sockets and clocks, and for these alone.

Such a test may fail because the machine stood still for seconds; thousands of them would
then refuse changes at random. It is run once more by pytest-rerunfailures, and the summary
names it (RERUN), to be mended: it has a race, or the product has. All other tests are
deterministic, and what fails there is wrong.
"""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; pytest gives the hook those of all folders."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))
