"""Who has no right, or a lower one, and says what would need more: nothing comes of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from crdtmerge.bodies import (
    Ban,
    Body,
    Grant,
    Lift,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
)
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import (
    MissingAuthorityError,
    NotAdmissibleError,
    UnreachableError,
)
from crdtmerge.policy import Rank, View
from crdtmerge.recipe import Recipe
from crdtmerge.record import SignedRecord
from tests.attacks.fortress import KEEPER, Fortress
from tests.attacks.siege import Siege
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    MAINTAINERS,
    OWNERS,
    READER,
    STRANGER,
    add_of,
    grant_of,
    unknown,
    write,
)

MIA, MAX = MAINTAINERS
RECIPE = Recipe("linear/1", (), (), "", "set")


def fed(*records: SignedRecord) -> Callable[[Siege], Any]:
    """Return the attack of a member that answers a question with these."""
    return lambda siege: siege.feeds(CARL, *records)


def view_of(fortress: Fortress) -> View:
    """Return what the set on the disk means."""
    return fortress.spaces().view(fortress.space)


def meaning(fortress: Fortress) -> tuple[object, ...]:
    """Return what an attack on rights would change."""
    view = view_of(fortress)
    ranks = {author: view.ranks[author] for author in sorted(view.ranks)}
    return view.visible, view.recipe_heads, ranks, sorted(view.bans)


# --- strangers ---------------------------------------------------------------------------


def test_stranger_gets_no_stream(fortress: Fortress) -> None:
    """Who is no member does not come through the handshake, and learns no more."""

    async def attack(siege: Siege) -> None:
        async with siege.client(STRANGER) as client:
            with pytest.raises(UnreachableError, match="no answer") as found:
                await client.open_stream(siege.feeding(()))
            assert found.type is UnreachableError

    fortress.withstands(None, attack)


def test_removal_by_a_stranger(fortress: Fortress) -> None:
    """A remove of another's add, under whatever grant of whomever, is refused."""
    add = fortress.contribute(CLEO, b"to be removed")
    body = Remove((add.record.id,))
    for grant in (fortress.pen.genesis.record, fortress.pen.grants[CLEO.public]):
        lie = write(STRANGER, grant, body)
        fortress.withstands(NotAdmissibleError, fed(lie))


BODIES: Final[dict[str, Callable[[Fortress], Body]]] = {
    "an add": lambda _: add_of(CONTENTS[0]),
    "a ban of content": lambda f: Ban("content", view_of(f).visible[0].content),
    "a ban of an author": lambda _: Ban("author", CLEO.public),
    "a revocation": lambda _: Revoke(CLEO.public, ()),
    "a lift": lambda _: Lift(RecordId(bytes(32))),
    "a recipe": lambda _: RecipeChange(RECIPE, ()),
    "an unknown kind": lambda _: unknown(),
}


@pytest.mark.parametrize("name", BODIES)
def test_record_of_a_stranger(fortress: Fortress, name: str) -> None:
    """Whatever it says, and carried by a member: genesis gives it nothing."""
    lie = write(STRANGER, fortress.pen.genesis.record, BODIES[name](fortress))
    fortress.withstands(NotAdmissibleError, fed(lie))


# --- rights that one gives oneself -------------------------------------------------------


@pytest.mark.parametrize("rank", [Rank.READER, Rank.CONTRIBUTOR, Rank.MAINTAINER])
def test_self_grant_of_a_stranger(fortress: Fortress, rank: Rank) -> None:
    """A grant to oneself hangs on nothing, and so does what hangs on it."""
    seat = write(STRANGER, fortress.pen.genesis.record, grant_of(STRANGER, rank))
    add = write(STRANGER, seat.record, add_of(CONTENTS[0]), after=seat.record)
    fortress.withstands(NotAdmissibleError, fed(seat, add))
    fortress.withstands(NotAdmissibleError, fed(add, seat))
    fortress.withstands(MissingAuthorityError, fed(add))


@pytest.mark.parametrize(
    ("author", "rank"),
    [
        (READER, Rank.READER),
        (READER, Rank.MAINTAINER),
        (CLEO, Rank.CONTRIBUTOR),
        (CLEO, Rank.MAINTAINER),
        (MIA, Rank.MAINTAINER),
    ],
)
def test_self_grant_of_a_member(fortress: Fortress, author: Any, rank: Rank) -> None:
    """Nobody rises by its own word, nor lifts a second key of its own to its rank."""
    for key in (author, STRANGER):
        lie = fortress.next(author, grant_of(key, rank))
        fortress.withstands(NotAdmissibleError, fed(lie))


@pytest.mark.parametrize(
    ("cap", "records", "size"),
    [(DECIMAL_UNIT + 1, 1000, 1), (1, 1001, 1), (1, 1000, (1 << 30) + 1)],
)
def test_limits_shed_by_a_second_key(
    fortress: Fortress, cap: int, records: int, size: int
) -> None:
    """A maintainer grants nobody, its own second key above all, more than it has."""
    body = Grant(STRANGER.public, Rank.CONTRIBUTOR, cap, records, size)
    fortress.withstands(NotAdmissibleError, fed(fortress.next(MIA, body)))


@pytest.mark.parametrize("author", [READER, CLEO])
def test_judgement_from_below(fortress: Fortress, author: Any) -> None:
    """Bans, revocations and lifts need the rank of a maintainer."""
    for body in (Ban("author", CARL.public), Revoke(CARL.public, ())):
        fortress.withstands(NotAdmissibleError, fed(fortress.next(author, body)))


@pytest.mark.parametrize("target", [OWNERS[0], MAX, KEEPER])
def test_coup_of_a_maintainer(fortress: Fortress, target: Any) -> None:
    """A ban of who is not below is well-formed, is kept, and has no effect."""
    before = meaning(fortress)
    coup = [fortress.say(MIA, Ban("author", target.public))]
    coup.append(fortress.say(MIA, Revoke(target.public, ())))
    fortress.takes(coup, fed(*coup))
    after = meaning(fortress)
    assert after[:3] == before[:3]
    assert target.public not in view_of(fortress).rightless


# --- backdating --------------------------------------------------------------------------


def test_backdated_grant(fortress: Fortress) -> None:
    """A revoked maintainer signs a grant that claims to be older: it counts for nothing.

    Its number and `prev` are those of before; what the revocation accepted does not name
    it, and nothing else says how old a record is.
    """
    first = fortress.say(MIA, unknown())
    fortress.say(OWNERS[0], Revoke(MIA.public, (first.record.id,)))
    fortress.keep()
    before = meaning(fortress)
    grant = fortress.pen.grants[MIA.public]
    seat = write(MIA, grant, grant_of(STRANGER, Rank.CONTRIBUTOR), after=first.record)
    older = write(MIA, grant, grant_of(STRANGER, Rank.CONTRIBUTOR), seq=0)
    add = write(STRANGER, seat.record, add_of(CONTENTS[0]))
    fortress.takes([seat, older, add], fed(seat, older, add), shown=True)
    assert meaning(fortress) == before
    assert STRANGER.public not in view_of(fortress).ranks


def test_backdated_add(fortress: Fortress) -> None:
    """A banned contributor's add with a number of before the ban is not visible."""
    last = fortress.pen.last[CLEO.public]
    fortress.say(OWNERS[0], Revoke(CLEO.public, (last.id,)))
    fortress.keep()
    before = meaning(fortress)
    grant = fortress.pen.grants[CLEO.public]
    own = [s.record for s in fortress.pen.known.values()]
    first = next(r for r in own if r.author == CLEO.public and not r.author_seq)
    lies = [
        write(CLEO, grant, add_of(CONTENTS[0]), seq=0),
        write(CLEO, grant, add_of(CONTENTS[1]), after=first),
        write(CLEO, grant, add_of(CONTENTS[2]), after=last),
    ]
    fortress.takes(lies, fed(*lies), shown=True)
    assert meaning(fortress) == before


# --- the recipe --------------------------------------------------------------------------


@pytest.mark.parametrize("author", [READER, CLEO])
def test_recipe_takeover_from_below(fortress: Fortress, author: Any) -> None:
    """Readers and contributors set no recipe."""
    lie = fortress.next(author, RecipeChange(RECIPE, ()))
    fortress.withstands(NotAdmissibleError, fed(lie))


def test_recipe_takeover_by_a_low_id(fortress: Fortress) -> None:
    """A banned maintainer's recipe serves nobody, and replaces none, whatever its id."""
    kept = fortress.say(OWNERS[0], RecipeChange(RECIPE, ()))
    fortress.say(OWNERS[0], Ban("author", MAX.public))
    fortress.keep()
    tries = (
        fortress.next(MAX, RecipeChange(Recipe("ties/1", (), (), dtype, "set"), old))
        for dtype in ("", "F32", "F16", "BF16")
        for old in ((), (kept.record.id,))
    )
    takeover = min(tries, key=lambda signed: signed.record.id)
    before = meaning(fortress)
    fortress.takes([takeover], fed(takeover))
    assert meaning(fortress) == before
    assert view_of(fortress).recipe == RECIPE


# --- limits of a grant -------------------------------------------------------------------


def test_number_above_the_grant(fortress: Fortress) -> None:
    """An author_seq beyond what the grant allows is refused, though it is the first."""
    grant, last = fortress.pen.grants[CLEO.public], fortress.pen.last[CLEO.public]
    lie = write(CLEO, grant, add_of(CONTENTS[0]), after=last, seq=1001)
    fortress.withstands(NotAdmissibleError, fed(lie))


def test_bytes_above_the_grant(fortress: Fortress) -> None:
    """A model that declares more than the grant allows is refused, to the byte."""
    limit, manifest = 1 << 30, add_of(CONTENTS[0]).manifest_bytes
    over = replace(add_of(CONTENTS[0]), content_bytes=limit - manifest + 1)
    fortress.withstands(NotAdmissibleError, fed(fortress.next(CLEO, over)))
    at = replace(over, content_bytes=limit - manifest)
    true = fortress.next(CLEO, at)
    fortress.takes([true], fed(true))
