"""Weight that was not given: a copy of another's model weighs what its copier may."""

from dataclasses import replace

import pytest

from crdtmerge.bodies import Add, Ban, Grant
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import NotAdmissibleError
from crdtmerge.policy import Rank, Visible
from crdtmerge.record import SignedRecord
from tests.attacks.fortress import Fortress
from tests.properties.cast import CARL, CLEO, MAINTAINERS, OWNERS, STRANGER, write


def body_of(signed: SignedRecord) -> Add:
    """Return what an add says."""
    assert isinstance(signed.record.body, Add)
    return signed.record.body


def shown(fortress: Fortress, body: Add) -> Visible:
    """Return how a content counts in the merge."""
    visible = fortress.spaces().view(fortress.space).visible
    (found,) = [item for item in visible if item.content == body.content]
    return found


@pytest.mark.parametrize("units", [1000, 2, 0])
def test_weight_hijack_by_copy(fortress: Fortress, units: int) -> None:
    """A copy with a larger weight counts up to its copier's cap, and no less either."""
    body = body_of(fortress.contribute(CLEO, b"the model that is worth a copy"))
    before = fortress.spaces().view(fortress.space)
    copy = replace(body, weight=units * DECIMAL_UNIT, note="mine")
    said = fortress.next(CARL, copy)
    fortress.takes([said], lambda siege: siege.feeds(CARL, said))
    after = fortress.spaces().view(fortress.space)
    assert after.visible_root == before.visible_root
    found = shown(fortress, body)
    assert found.weight == DECIMAL_UNIT
    assert set(found.authors) == {CLEO.public, CARL.public}


def test_weight_of_ones_own_above_the_cap(fortress: Fortress) -> None:
    """What an author says of its own model above its grant counts as the grant."""
    body = body_of(fortress.contribute(CLEO, b"a model of no great weight"))
    heavy = replace(body, weight=1000 * DECIMAL_UNIT)
    said = fortress.next(CLEO, heavy)
    fortress.takes([said], lambda siege: siege.feeds(CARL, said))
    assert shown(fortress, body).weight == DECIMAL_UNIT


def test_weight_under_a_grant_that_was_revoked(fortress: Fortress) -> None:
    """A larger cap that its giver had no right to give, or lost, gives no weight."""
    body = body_of(fortress.contribute(CLEO, b"a model"))
    large = Grant(CARL.public, Rank.CONTRIBUTOR, 100 * DECIMAL_UNIT, 1000, 1 << 30)
    fortress.withstands(
        NotAdmissibleError,
        lambda siege: siege.feeds(CARL, fortress.next(MAINTAINERS[0], large)),
    )
    given = fortress.say(OWNERS[1], large).record
    fortress.keep()
    copy = replace(body, weight=100 * DECIMAL_UNIT)
    last = fortress.pen.last[CARL.public]
    said = write(CARL, given, copy, after=last)
    fortress.takes([said], lambda siege: siege.feeds(CARL, said))
    assert shown(fortress, body).weight == 100 * DECIMAL_UNIT
    stolen = write(STRANGER, given, copy)
    fortress.withstands(NotAdmissibleError, lambda siege: siege.feeds(CARL, stolen))


def test_copy_outlives_no_ban(fortress: Fortress) -> None:
    """A banned content is out under whichever name it is added again."""
    body = body_of(fortress.contribute(CLEO, b"poison"))
    fortress.say(OWNERS[0], Ban("content", body.content))
    fortress.keep()
    before = fortress.spaces().view(fortress.space).visible_root
    said = fortress.next(CARL, replace(body, note="another"))
    fortress.takes([said], lambda siege: siege.feeds(CARL, said))
    assert fortress.spaces().view(fortress.space).visible_root == before
