"""Tier 2: whole models, every tensor, at the sizes that a machine like this can hold.

Owns which model is merged by which strategies. Does not own how (`layers`). What was not
run says why; nothing is extrapolated from what was.
"""

from collections.abc import Iterator
from typing import Final

from . import published
from .large_models import (
    GPT2_MEDIUM,
    MINILM,
    MISTRAL_BLOCK,
    REAL,
    SMALL,
    TINY_LLAMA,
    minilm,
)
from .layers import Work, check
from .timing import Tell, Watch

Facts = dict[str, object]

LARGE: Final = ("linear", "slerp", "ties", "dare_ties")
"""One of each form: a sum, inner products, ranks, masks. All others at MiniLM's size."""
LARGEST: Final = ("linear", "slerp")

WORK: Final = (
    Work(GPT2_MEDIUM, LARGE),
    Work(MISTRAL_BLOCK, ("linear", "slerp", "ties")),
    Work(None, each_law=LARGE),
    Work(TINY_LLAMA, LARGEST),
)
QUICK: Final = (Work(SMALL, ("linear", "slerp", "layer_swap"), ("linear",)),)

NOT_RUN: Final = (
    {
        "what": "GPT-2-XL (1.5 B) and its three public fine-tunes",
        "why": "weights of that size are on a hub, which is not asked",
    },
    {
        "what": "Mistral-7B but for one block",
        "why": "four models of 14.5 GB each take more disk and time than a run has",
    },
)


def run(*, quick: bool, say: Tell) -> Iterator[Facts]:
    """Yield all figures of tier 2 so far, after each model."""
    watch, missing = Watch(), [dict(row) for row in NOT_RUN]
    work = list(QUICK if quick else WORK)
    if not quick and minilm() is None:
        why = f"the package {MINILM.replace('_', '-')} is not installed"
        missing.append({"what": REAL, "why": why})
        work = [one for one in work if one.sizes is not None]
    models: list[Facts] = []
    for place, one in enumerate(work, 1):
        models.append(check(one, say))
        left = [one.sizes.name if one.sizes else REAL for one in work[place:]]
        late = [{"what": name, "why": "the run was ended before"} for name in left]
        yield {
            "models": list(models),
            **{name: sum(int(str(m[name])) for m in models) for name in COUNTS},
            "seconds": round(watch.seconds, 1),
            "not_run": [*missing, *late],
            "paper": dict(published.TIER_2),
        }


COUNTS: Final = ("strategy_tests", "layer_checks", "layer_checks_passed")
