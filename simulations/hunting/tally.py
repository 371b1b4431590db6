"""What many runs came to, together.

Owns the counts. Keeps of each run a few numbers, so that their number does not matter.
Does not own how they are printed (`words`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from simulations.faults import FAULTS

from .attempts import Failure, Result

if TYPE_CHECKING:
    import hashlib

FAILURES_KEPT_MAX: Final = 100


@dataclass(slots=True)
class Tally:
    """Counts over runs, in their order."""

    runs: int = 0
    events: int = 0
    messages: int = 0
    message_bytes: int = 0
    nodes: int = 0
    seconds: float = 0.0
    """Virtual time of all runs together."""
    injected: Counter[str] = field(default_factory=Counter)
    rounds: list[float] = field(default_factory=list)
    """Until all agreed, of each run that held."""
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    """The first of them."""
    _digest: "hashlib._Hash" = field(default_factory=sha256)

    def add(self, result: Result) -> None:
        """Count one more run."""
        self.runs += 1
        self.events += result.events
        self.seconds += result.seconds
        self.injected.update(result.injected or {})
        self._digest.update(f"{result.log_digest}\n".encode())
        if isinstance(result, Failure):
            self.failed += 1
            self.failures = [*self.failures, result][:FAILURES_KEPT_MAX]
            return
        self.nodes += result.nodes
        self.messages += result.messages
        self.message_bytes += result.message_bytes
        self.rounds.append(result.settled.rounds)

    @property
    def digest(self) -> str:
        """Digest of all log digests, in the order of the runs."""
        return self._digest.hexdigest()

    def facts(self) -> dict[str, object]:
        """Return what `--json` prints of the runs."""
        found = sorted(self.rounds)
        return {
            "agreed": not self.failed,
            "runs": self.runs,
            "failed": self.failed,
            "events": self.events,
            "virtual_seconds": round(self.seconds, 3),
            "messages": self.messages,
            "bytes": self.message_bytes,
            "injected": {name: self.injected[name] for name in FAULTS},
            "rounds": {
                "p50": round(rank(found, 0.5), 3),
                "p99": round(rank(found, 0.99), 3),
                "max": round(rank(found, 1.0), 3),
            },
            "digest": self.digest,
            "failures": [failure.facts() for failure in self.failures],
        }


def rank(ordered: Sequence[float], share: float) -> float:
    """Return the least value that `share` of them do not exceed; 0 if there is none."""
    if not ordered:
        return 0.0
    place = -(-len(ordered) * share // 1)  # rounded up
    return ordered[max(0, int(place) - 1)]
