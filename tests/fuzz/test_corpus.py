"""Every kept input, and changes of it: a decoder takes it or refuses it, and no more.

The inputs were found by `make fuzz` (docs/fuzzing.md); those called `bug-` found a bug. The
changes are drawn from each input's digest, so a failure is the same in every run. No
fuzzing engine is needed here.
"""

import ast
import random
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import FrameType

import pytest

from crdtmerge.errors import EncodingError
from tests.fuzz import corpus
from tests.fuzz.mutators import mutated
from tests.fuzz.target import PEER, Target, accepts
from tests.fuzz.targets import TARGETS

CHANGES: int = 12
"""Changed forms of each kept input."""
CHANGES_SLOW: int = 2
TOTAL_BYTES_MAX = 600_000
"""All that is kept, together."""

ALL = pytest.mark.parametrize("target", TARGETS.values(), ids=lambda t: t.name)


def changes(target: Target, data: bytes) -> Iterator[bytes]:
    """Yield changed forms of an input, the same ones in every run."""
    count = CHANGES_SLOW if target.slow else CHANGES
    for number in range(count):
        rng = random.Random(f"{corpus.name_of(data)} {number}")
        shape = target.shape if number % 2 else "bytes"
        yield mutated(shape, data, rng)[: target.length]


@ALL
def test_a_kept_input_is_taken_or_refused(target: Target) -> None:
    """Whatever was kept ends as the table of targets allows, and with it a bug."""
    for data in corpus.kept(target):
        accepts(target, data)


@ALL
def test_changes_of_kept_inputs_are_taken_or_refused(target: Target) -> None:
    """So do inputs that nobody has looked at, a few changes away from those."""
    for data in corpus.kept(target):
        for changed in changes(target, data):
            accepts(target, changed)


@ALL
def test_a_target_is_not_vacuous(target: Target) -> None:
    """Some of the kept inputs are taken, and some changes of them are refused."""
    kept = corpus.kept(target)
    assert any(accepts(target, data) for data in kept)
    assert any(accepts(target, seed) for seed in target.seeds())
    near = (changed for data in kept for changed in changes(target, data))
    assert not target.refusals or not all(accepts(target, data) for data in near)


def test_every_decoder_by_its_name_is_run_by_a_target() -> None:
    """Whoever adds one adds a line to the table: its seeds reach the decoder."""
    ran: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            ran.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    known = set(decoders())
    for path, name in known:
        forget(path, name)
    for target in TARGETS.values():
        seeds = list(target.seeds())
        sys.setprofile(note)
        try:
            for seed in seeds:
                accepts(target, seed)
        finally:
            sys.setprofile(None)
    assert known - ran == set()


def forget(path: str, name: str) -> None:
    """Let a decoder that remembers what it read do so no more."""
    parts = Path(path).relative_to(corpus.ROOT).with_suffix("").parts
    module = import_module(".".join(parts).removesuffix(".__init__"))
    remembered = getattr(attrgetter(name)(module), "cache_clear", None)
    if remembered is not None:
        remembered()


def decoders() -> Iterator[tuple[str, str]]:
    """Yield file and name of every function that is called as decoders are."""
    for package in ("crdtmerge", "nodes"):
        for path in sorted((corpus.ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            classes = [item for item in tree.body if isinstance(item, ast.ClassDef)]
            for start, body in [
                ("", tree.body),
                *((f"{c.name}.", c.body) for c in classes),
            ]:
                for item in body:
                    if isinstance(item, ast.FunctionDef) and DECODER.fullmatch(
                        item.name
                    ):
                        yield str(path), start + item.name


DECODER = re.compile(
    r"(decode|decoded|parse)(_\w+)?|well_formed"
    r"|from_(value|bytes|frame|join_frame|fetch_request)"
)


def test_what_is_kept_is_small_and_named_by_its_digest() -> None:
    """A corpus in a repository is read by people, so it must stay little."""
    files = sorted(path for path in corpus.FOLDER.rglob("*") if path.is_file())
    assert sum(path.stat().st_size for path in files) <= TOTAL_BYTES_MAX
    assert {path.parent.name for path in files} <= set(TARGETS)
    for path in files:
        assert path.name.removeprefix("bug-") == corpus.name_of(path.read_bytes()), path


@pytest.mark.parametrize(
    "error",
    [ValueError, RecursionError, OverflowError, UnicodeEncodeError, MemoryError],
)
def test_an_error_of_python_is_a_find(error: type[Exception]) -> None:
    """The rule bites: what a decoder lets through comes out of the check."""

    def read(_: bytes) -> None:
        raise error(
            *(("utf-8", "x", 0, 1, "no") if "Unicode" in error.__name__ else ())
        )

    target = Target("broken", "nothing", read, PEER, lambda: ())
    with pytest.raises(error):
        accepts(target, b"")


def test_a_broken_promise_is_a_find_and_a_refusal_is_none() -> None:
    """An invariant that does not hold is told apart from bytes that are refused."""

    def read(data: bytes) -> None:
        assert data != b"broken"
        raise EncodingError("refused")

    target = Target("strict", "nothing", read, PEER, lambda: ())
    assert not accepts(target, b"any")
    with pytest.raises(AssertionError):
        accepts(target, b"broken")
