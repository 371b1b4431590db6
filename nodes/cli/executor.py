"""Where a verb runs: in the node that runs on the home, or in this very process.

Owns that choice, and the patience with a home that is busy. Does not own what verbs do
(`operations`).
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

from crdtmerge.errors import ConflictError, NotFoundError

from . import progress

ATTEMPTS: Final = 25
PAUSE_S: Final = 0.2
"""How long a command waits for another one to finish: 5 seconds in all."""

Answer = dict[str, object]


def read(home: Path, verb: str, arguments: Mapping[str, object]) -> Answer:
    """Run a verb that changes nothing, in this process, beside whatever runs."""
    with progress.shown() as tell:
        return _here(home, verb, arguments, tell, write=False)


def ask(home: Path, verb: str, arguments: Mapping[str, object]) -> Answer:
    """Run a reading verb in the running node, which knows its peers; else here."""
    with progress.shown() as tell:
        answer = _there(home, verb, arguments, tell)
        if answer is not None:
            return answer
        return _here(home, verb, arguments, tell, write=False)


def read_if_home(home: Path, verb: str, arguments: Mapping[str, object]) -> Answer:
    """Run a reading verb that can also do without a home."""
    from ..home import STORE_FILE

    if (home / STORE_FILE).is_file():
        return read(home, verb, arguments)
    with progress.shown() as tell:
        return call_homeless(verb, arguments, tell)


def write(home: Path, verb: str, arguments: Mapping[str, object]) -> Answer:
    """Run a verb that changes the home: in the running node, else here under the lock.

    Raises:
        ConflictError: another process holds the home and stays.
    """
    from ..home import open_home

    with progress.shown() as tell:
        for attempt in range(1, ATTEMPTS + 1):
            answer = _there(home, verb, arguments, tell)
            if answer is not None:
                return answer
            try:
                opened = open_home(home, write=True)
            except ConflictError:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE_S)
                continue
            with opened:
                return _call(opened, verb, arguments, tell)
        raise AssertionError("the last attempt returns or raises")
