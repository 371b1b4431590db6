"""What the version before sent, this one reads, and would send byte for byte."""

import json

import pytest

from crdtmerge.sync.messages import Hello
from nodes.convert import decode, encode
from tests.vectors.frames import KEPT, messages

FRAMES = {
    name: bytes.fromhex(text) for name, text in json.loads(KEPT.read_text()).items()
}


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_frames_of_the_version_before_mean_what_they_did(name: str) -> None:
    """No field has moved, and none that is new is written where nothing is said in it."""
    message = messages()[name]
    assert decode(FRAMES[name]) == message
    assert encode(message) == FRAMES[name]


def test_all_kinds_are_kept_and_name_one_version() -> None:
    """A hello without a range is for its version alone."""
    assert FRAMES.keys() == messages().keys()
    hello = decode(FRAMES["hello"])
    assert isinstance(hello, Hello)
    assert hello.spoken == (1, 1)
