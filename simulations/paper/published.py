"""The figures that the paper gives, and what the reference implementation was measured at.

Owns numbers alone. Does not own what ours are.
"""

from collections.abc import Mapping
from typing import Final

PHASE_1: Final[Mapping[str, int]] = {
    "commutative": 21,
    "associative": 1,
    "idempotent": 14,
    "all_three": 0,
    "of": 26,
}
PHASE_2: Final = (104, 104)
"""Passed, and of how many: four laws of 26 strategies."""
TIER_2: Final[Mapping[str, object]] = {
    "models": "GPT-2-XL (1.5 B) and Mistral-7B (7.24 B), three public fine-tunes each",
    "read": "one 128x128 slice per unique shape, extrapolated to all layers",
    "strategy_tests": 208,
    "layer_checks": 43_368,
}
CROWD: Final[Mapping[str, float]] = {
    "nodes": 100,
    "orderings": 20,
    "exchanges": 9_900,
    "gossip_ms": 492.8,
    "resolve_s": 19.7,
    "max_difference": 0.0,
}
PARTITION: Final[Mapping[str, float]] = {
    "islands": 10,
    "distinct_apart": 10,
    "equal_after": 100,
    "apart_ms": 4.6,
    "heal_ms": 556.6,
}
SWEEP: Final[Mapping[str, object]] = {
    "strategies": 26,
    "nodes": 10,
    "side": 64,
    "slowest": "evolutionary and genetic 86-88 s, others under 200 ms",
}
SCALING: Final[Mapping[int, float]] = {50: 127.0}
"""Milliseconds of gossip by nodes."""
OVERHEAD: Final[Mapping[str, float]] = {
    "contributions": 16,
    "ms": 0.5,
    "bytes": 10_000,
}
