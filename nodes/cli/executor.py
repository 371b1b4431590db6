"""Where a verb runs: in the node that runs on the home, or in this very process.

Owns that choice, and the patience with a home that is busy. Does not own what verbs do
(`operations`).
"""

import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from crdtmerge.errors import ConflictError, NodeNeededError

from . import progress
from .control import ask_node
from .settings import Settings

if TYPE_CHECKING:
    from ..home import Home
    from ..operations.live import Context
    from ..operations.verbs import Operations
    from ..passphrase import AskPassphrase

ATTEMPTS: Final = 25
PAUSE_S: Final = 0.2
"""How long a command waits for another one to finish: 5 seconds in all."""

T = TypeVar("T")

Answer = dict[str, object]
Here = Callable[["Home", str, Mapping[str, object], progress.Tell], Answer]


def read(home: Path, verb: str, arguments: Mapping[str, object]) -> Answer:
    """Run a verb that changes nothing, in this process, beside whatever runs."""
    from ..home import open_home

    with progress.shown() as tell, open_home(home, write=False) as opened:
        return _call(opened, verb, arguments, tell)


def ask(home: Path, verb: str, arguments: Mapping[str, object]) -> Answer:
    """Run a reading verb in the running node, which knows its peers; else here."""
    with progress.shown() as tell:
        answer = ask_node(home, verb, arguments, tell)
    return read(home, verb, arguments) if answer is None else answer


def verify(home: Path, arguments: Mapping[str, object]) -> Answer:
    """Verify a model with what the home has; without a home, by its digests alone."""
    from ..home import STORE_FILE
    from ..operations.verifying import verify_alone

    if (home / STORE_FILE).is_file():
        return read(home, "verify", arguments)
    with progress.shown() as tell:
        return verify_alone(arguments, tell)


def merge(arguments: Mapping[str, object]) -> Answer:
    """Merge from a configuration: in this process, with no home."""
    from ..operations.merging import merge as run

    with progress.shown() as tell:
        return run(arguments, tell)


def check(arguments: Mapping[str, object]) -> Answer:
    """Explain a recipe for a base on disk: in this process, with no home."""
    from ..operations.checking import check_alone

    return check_alone(arguments)


def write(chosen: Settings, verb: str, arguments: Mapping[str, object]) -> Answer:
    """Run a verb that changes the home: in the running node, else here under the lock.

    Here it asks for a passphrase if a key must sign and is encrypted; a running node has
    been told.

    Raises:
        ConflictError: another process holds the home and stays.
        BadInputError: the passphrase is wrong, or there is none.
    """
    return _in_node_or(_call, chosen, verb, arguments)


def with_node(chosen: Settings, verb: str, arguments: Mapping[str, object]) -> Answer:
    """Run a verb that needs peers: in the running node, else in one that runs meanwhile.

    Raises:
        ConflictError: another process holds the home and stays.
    """
    return _in_node_or(_call_in_node, chosen, verb, arguments)


def _in_node_or(
    here: "Here", chosen: Settings, verb: str, arguments: Mapping[str, object]
) -> Answer:
    """Run a verb in the running node, else as `here` does, patiently, under the lock."""
    from ..home import open_home
    from .passphrases import present

    home, ask = chosen.home, present(chosen.passphrase_file)
    with progress.shown() as tell:
        for attempt in range(1, ATTEMPTS + 1):
            answer = ask_node(home, verb, arguments, tell)
            if answer is not None:
                return answer
            try:
                opened = open_home(home, write=True, ask=ask)
            except ConflictError:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE_S)
                continue
            with opened:
                return here(opened, verb, arguments, tell)
        raise AssertionError("the last attempt returns or raises")


@contextmanager
def alone(home: Path, ask: "AskPassphrase") -> "Iterator[Context]":
    """Open a home for work on what no node may have in its hands meanwhile.

    Raises:
        ConflictError: a node runs on it, or a command.
    """
    from ..home import open_home

    with open_home(home, write=True, ask=ask) as opened:
        yield _here(opened).context


def _call(
    home: "Home", verb: str, arguments: Mapping[str, object], tell: progress.Tell
) -> Answer:
    """Run a verb on an open home, in this process."""
    return _here(home).call(verb, arguments, tell)


def _here(home: "Home") -> "Operations":
    from ..operations.verbs import Operations
    from ..spaces import Spaces

    spaces = Spaces(home.records, home.blobs)
    return Operations(
        home, spaces, entropy=_entropy, run=_Run(), live=None, clock=_clock
    )


def _call_in_node(
    home: "Home", verb: str, arguments: Mapping[str, object], tell: progress.Tell
) -> Answer:
    """Run a verb in a node that starts and stops here, once all else is checked."""
    try:
        return _call(home, verb, arguments, tell)
    except NodeNeededError:
        from ..errand import run_errand

        return run_errand(home, verb, arguments, tell)


def _entropy(count: int) -> bytes:
    """Return entropy of the system; most verbs need none, so the import is late."""
    from ..runtime import entropy

    return entropy(count)


def _clock() -> float:
    """Return the seconds of the system's clock; the import is late for the same reason."""
    from ..runtime import wall_clock

    return wall_clock()


class _Run:
    """Runs asynchronous work on a loop of its own."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T:
        """Run `work` to its end."""
        from ..runtime import run_here

        return run_here(work)
