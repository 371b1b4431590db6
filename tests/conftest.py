"""Hypothesis profiles: dev by default, HYPOTHESIS_PROFILE chooses another; what runs first.

`make test` is a gate, which everybody runs before every change: its examples follow from
the code of a test alone (dev), so that it says the same of the same commit, and no change
is refused for what was wrong before it. Chance finds what nobody thought of, so `make
test-all` draws examples of its own, ten times as many (search), and prints what repeats a
failure. Mutants take many that do not change (ci).

Bars of transformers are off: they start threads of their own, which a test has no use for.
"""

import gc
import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

# Histories sign and verify real records, so drawing one takes milliseconds, not micros.
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "dev",
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=_QUIET,
)
settings.register_profile(
    "ci",
    max_examples=500,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=_QUIET,
)
settings.register_profile(
    "search",
    max_examples=500,
    deadline=None,
    print_blob=True,
    suppress_health_check=_QUIET,
)
settings.register_profile(
    "nightly", max_examples=20_000, deadline=None, suppress_health_check=_QUIET
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

LONGEST: Final = (
    "integration/test_sigkill.py",
    "integration/test_processes.py",
    "integration/test_cli_passphrase.py",
    "unit/test_store_crash_points.py",
    "integration/test_cli_peers.py",
    "integration/test_cli_vocabularies.py",
    "integration/test_cli_merge_methods.py",
    "integration/test_poison.py",
    "integration/test_repair.py",
    "vectors/test_resolves.py",
    "simulation/test_swarm.py",
    "simulation/test_scenarios.py",
    "integration/test_cli_doctor.py",
    "integration/test_cli_verbs.py",
    "integration/test_encodings.py",
    "integration/test_cli_local.py",
    "integration/test_outputs_load.py",
    "unit/test_resolve_accumulators.py",
)
"""The files that take longest: they begin, so that no process has one left at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the others stay in the order that they have."""
    here = Path(__file__).parent
    first = {here / name: place for place, name in enumerate(LONGEST)}
    missing = [path for path in first if not path.exists()]
    assert not missing, f"no such tests: {missing}"
    items.sort(key=lambda item: first.get(item.path, len(first)))


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over all that was imported and collected by now.

    That is millions of objects which stay to the end; a test that measures memory would
    look at each of them again.
    """
    gc.collect()
    gc.freeze()
