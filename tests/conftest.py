"""Hypothesis profiles: dev by default, HYPOTHESIS_PROFILE chooses another.

Bars of transformers are off: they start threads of their own, which a test has no use for.
"""

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

# Histories sign and verify real records, so drawing one takes milliseconds, not micros.
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "dev", max_examples=50, deadline=None, suppress_health_check=_QUIET
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
    "nightly", max_examples=20_000, deadline=None, suppress_health_check=_QUIET
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
