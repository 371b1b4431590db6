"""What is remembered while a run lasts changes nothing but the time that it takes."""

import pytest

from crdtmerge import identity, record
from crdtmerge.errors import BadSignatureError
from crdtmerge.identity import Purpose, SigningKey, verify
from simulations.memo import remembering
from simulations.runs import SWARM, Run
from simulations.stories.swarm import run_swarm


def test_a_run_that_remembers_is_the_same_run() -> None:
    """To the last line of its log, on disks and in memory."""
    for seed in (0, 1):
        assert Run(SWARM, seed, 4, 4).perform() == run_swarm(seed, 4, rounds=4)


def test_nothing_is_remembered_longer_than_it_lasts() -> None:
    """Real nodes in the same process check what they always check."""
    before = record._decoded, identity._check
    with remembering():
        assert record._decoded is not before[0]
        assert identity._check is not before[1]
    assert (record._decoded, identity._check) == before


def test_a_forged_signature_is_refused_each_time() -> None:
    """And the one that holds is no excuse for another of the same key."""
    key = SigningKey(bytes(32))
    purpose = next(iter(Purpose))
    signature = key.sign(purpose, b"said")
    with remembering():
        for _ in range(2):
            verify(key.public, purpose, b"said", signature)
            with pytest.raises(BadSignatureError):
                verify(key.public, purpose, b"not said", signature)
