"""One run that may fail: its outcome, or what is known of its failure.

Owns which failures are the same. Does not own what must hold (`simulations.checking`).
"""

import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from simulations.cluster import Cluster
from simulations.faults import FAULTS, Strike
from simulations.outcome import Outcome
from simulations.runs import Run

_VARYING: Final = re.compile(r"\b(?:node[0-9]+|[0-9a-f]{12,}|[0-9]+(?:\.[0-9]+)?)\b")
"""What differs between two failures of one kind: who, when, how many."""
_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed: `sign` is the same for failures of one kind."""

    run: Run
    error: str
    message: str
    sign: str
    trace: str
    seconds: float = 0.0
    """Virtual time at which it failed."""
    events: int = 0
    log_digest: str = ""
    injected: Mapping[str, int] | None = None
    strikes: tuple[Strike, ...] = ()
    """The faults that happened, by the names of machines; the first many of them."""

    @property
    def command(self) -> str:
        """The words that repeat it, after `crdtmerge simulate`."""
        return self.run.command

    def facts(self) -> dict[str, object]:
        """Return what `--json` prints of it."""
        return {
            "command": f"crdtmerge simulate {self.command}",
            "seed": self.run.seed,
            "error": self.error,
            "message": self.message,
            "sign": self.sign,
            "seconds": round(self.seconds, 3),
            "events": self.events,
            "log_digest": self.log_digest,
            "injected": dict(self.injected or {}),
        }


Result: TypeAlias = Outcome | Failure


def attempt(run: Run) -> Result:
    """Perform a run; return what it came to, or how it failed.

    Raises:
        UnknownNameError: there is no such story.
        BadInputError: something is out of its range.
    """
    run.check()
    seen: list[Cluster] = []
    try:
        return run.perform(seen.append)
    except Exception as e:  # noqa: BLE001  whatever a run does not survive is its failure
        return _failure(run, e, seen[0] if seen else None)


def _failure(run: Run, error: Exception, cluster: Cluster | None) -> Failure:
    message = str(error) or type(error).__name__
    failure = Failure(
        run,
        type(error).__name__,
        message,
        _sign(error, message),
        "".join(traceback.format_exception(error)),
    )
    if cluster is None:
        return failure
    struck = cluster.dice.struck
    return replace(
        failure,
        seconds=cluster.clock.now,
        events=cluster.events,
        log_digest=cluster.log_digest,
        injected={name: struck[name] for name in FAULTS if struck[name]},
        strikes=_named(cluster),
    )


def _sign(error: Exception, message: str) -> str:
    """Return what two failures of one kind have in common: error, place and words."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if Path(f.filename).is_relative_to(_ROOT)]
    place = f"{Path(ours[-1].filename).stem}.{ours[-1].name}" if ours else ""
    return f"{type(error).__name__} in {place}: {_VARYING.sub('#', message)}"


def _named(cluster: Cluster) -> tuple[Strike, ...]:
    """Return the strikes, with the names of machines in the place of their keys."""
    names = {machine.transport: machine.name for machine in cluster.machines}

    def said(word: str | bytes) -> str:
        return word if isinstance(word, str) else names.get(word, word.hex()[:12])

    return tuple(
        s._replace(subject=tuple(map(said, s.subject))) for s in cluster.strikes
    )
