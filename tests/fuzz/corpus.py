"""The inputs that are kept in the repository: few, small, and each of some use.

Owns where they lie, what they are called, how many there may be, and the choice: those
which together run every line, after every other line, that all inputs found ran. Does not
own finding them (`engine`).
"""

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tests.fuzz.target import Target, accepts

FOLDER: Final = Path(__file__).parent / "corpus"
ROOT: Final = Path(__file__).parent.parent.parent
INPUTS_MAX: Final = 48
"""Most inputs of one target."""
INPUT_BYTES_MAX: Final = 6144
TARGET_BYTES_MAX: Final = 10_000
"""Most bytes of one target's inputs."""
TRACED_MAX: Final = 1500
"""Most inputs that are looked at for a choice; the smallest come first."""
DIGITS: Final = 16

Steps = frozenset[tuple[str, int, int]]
"""Which line of which file ran after which."""


def name_of(data: bytes) -> str:
    """Return what an input is called: the start of its digest."""
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def kept(target: Target) -> list[bytes]:
    """Return the kept inputs of a target, by their names."""
    folder = FOLDER / target.name
    return (
        [path.read_bytes() for path in sorted(folder.iterdir())]
        if folder.is_dir()
        else []
    )


def keep(target: Target, data: bytes) -> Path:
    """Keep one input, such as one that found a bug; `chosen` never drops it.

    What found a bug begins with `bug-`.
    """
    folder = FOLDER / target.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"bug-{name_of(data)}"
    path.write_bytes(data)
    return path


def renew(target: Target, found: Iterable[bytes]) -> int:
    """Put in place of what is kept what is worth keeping of it and of `found`.

    The smallest seed that is taken is kept always.
    """
    folder = FOLDER / target.name
    folder.mkdir(parents=True, exist_ok=True)
    bugs = {path.read_bytes() for path in folder.glob("bug-*")}
    taken = min((s for s in target.seeds() if accepts(target, s)), key=_order)
    inputs = [*target.seeds(), *kept(target), *found]
    chosen_ones = [*chosen(target, inputs, {*bugs, taken}), taken]
    for path in folder.iterdir():
        if not path.name.startswith("bug-"):
            path.unlink()
    for data in chosen_ones:
        (folder / name_of(data)).write_bytes(data)
    return len(chosen_ones)


def chosen(
    target: Target, inputs: Iterable[bytes], given: Iterable[bytes]
) -> list[bytes]:
    """Return the inputs, small ones first, that each run something new beside `given`."""
    seen = set[tuple[str, int, int]]().union(
        *(steps_of(target, data) for data in given)
    )
    small = sorted(
        {data for data in inputs if len(data) <= INPUT_BYTES_MAX}, key=_order
    )
    found: list[tuple[int, bytes]] = []
    for data in small[:TRACED_MAX]:
        new = steps_of(target, data) - seen
        if new:
            seen |= new
            found.append((len(new), data))
    # What opened most comes first, if not all may stay.
    found.sort(key=lambda item: (-item[0], _order(item[1])))
    kept_ones, size = list[bytes](), 0
    for _, data in found[:INPUTS_MAX]:
        if size + len(data) <= TARGET_BYTES_MAX:
            kept_ones.append(data)
            size += len(data)
    return kept_ones


def _order(data: bytes) -> tuple[int, bytes]:
    return len(data), data


def steps_of(target: Target, data: bytes) -> Steps:
    """Return which lines of our packages ran one after the other, for one input."""
    steps: set[tuple[str, int, int]] = set()
    last: dict[int, int] = {}

    def line(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        key, now = id(frame), frame.f_lineno
        steps.add((frame.f_code.co_filename, last.get(key, 0), now))
        last[key] = now
        if event == "return":
            last.pop(key, None)
        return line

    def call(frame: FrameType, _event: str, _: Any) -> Callable[..., Any] | None:
        name = frame.f_code.co_filename
        ours = name.startswith((f"{ROOT}/crdtmerge", f"{ROOT}/nodes"))
        return line if ours else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        accepts(target, data)
    except Exception:  # noqa: BLE001  a find is told of elsewhere
        pass
    finally:
        sys.settrace(before)
    return frozenset(steps)
