"""What one author offers keeps nobody else's contribution waiting, nor fills the disk."""

import random
from dataclasses import replace

from crdtmerge.bodies import Add, SpaceId
from crdtmerge.digest import BlobId, ContentId, blob_id_of
from crdtmerge.identity import AuthorId
from nodes.choices import FETCHES_BYTES, FETCHES_MAX, FETCHES_URGENT, Choices, Part
from nodes.effects import (
    BlobsNeeded,
    BlobStored,
    Fetch,
    QuotasChanged,
    Ticked,
)
from nodes.node import Node
from nodes.offers import Offer, beyond
from nodes.quotas import Quotas
from tests.homes import wanted
from tests.unit.test_node import Home, only

SPACE = SpaceId(b"s" * 32)
PEERS = {b"p" * 32: frozenset({SPACE})}
FLOODER, OTHER, THIRD = (AuthorId(bytes([n]) * 32) for n in (1, 2, 3))


class Offered:
    """Contents that are offered, by hand."""

    def __init__(
        self, *parts: Part, manifests: frozenset[BlobId] = frozenset()
    ) -> None:
        self.found = [replace(part, manifests=manifests) for part in parts]

    def all(self) -> list[SpaceId]:
        """Return the only space."""
        return [SPACE]

    def parts(self, _space: SpaceId) -> list[Part]:
        """Return what is offered."""
        return self.found


def blobs(name: str, count: int, size: int = 10) -> dict[BlobId, int]:
    return {BlobId(f"{name}{n}".ljust(32).encode()): size for n in range(count)}


def begun(choices: Choices) -> list[AuthorId]:
    """Look, begin what may begin; return in whose turns."""
    choices.look()
    fetches = choices.next(PEERS, 0.0)
    return [choices.flying[fetch.blob].author for fetch in fetches]


def choose(*parts: Part, manifests: frozenset[BlobId] = frozenset()) -> Choices:
    return Choices(Offered(*parts, manifests=manifests), random.Random(5))


def test_two_authors_have_half_of_the_places_each() -> None:
    """However many blobs one of them offers, in whatever order they are listed."""
    many = [Part((FLOODER,), blobs(f"f{n}/", 10)) for n in range(100)]
    turns = begun(choose(*many, Part((OTHER,), blobs("o", 200))))
    assert len(turns) == FETCHES_MAX - FETCHES_URGENT
    assert abs(turns.count(FLOODER) - turns.count(OTHER)) <= 1


def test_one_author_alone_has_all_the_places() -> None:
    """Shares are for who needs them."""
    turns = begun(choose(Part((FLOODER,), blobs("f", 200))))
    assert len(turns) == FETCHES_MAX - FETCHES_URGENT


def test_who_comes_later_has_a_place_at_once() -> None:
    """An author with nothing in flight does not wait for another's hundred blobs."""
    choices = choose(Part((FLOODER,), blobs("f", 200)))
    begun(choices)
    choices.contents = Offered(
        Part((FLOODER,), blobs("f", 200)), Part((OTHER,), blobs("o", 5))
    )
    assert begun(choices) == [OTHER]
    done = [b for b, fetch in choices.flying.items() if fetch.author == FLOODER]
    for blob in done[:8]:
        choices.stored(blob)
    assert begun(choices) == [OTHER] * 4


def test_who_comes_later_does_not_wait_for_large_blobs() -> None:
    """Another's gigabytes in flight are no reason to begin nothing."""
    choices = choose(Part((FLOODER,), blobs("f", 50, size=FETCHES_BYTES)))
    assert begun(choices).count(FLOODER) == 4
    choices.contents = Offered(
        Part((FLOODER,), blobs("f", 50, size=FETCHES_BYTES)),
        Part((OTHER,), blobs("o", 1, size=FETCHES_BYTES)),
    )
    assert begun(choices) == [OTHER]


def test_manifests_of_one_author_leave_room_for_tensors_of_another() -> None:
    """A flood of adds names a manifest each: urgent, and yet but a share."""
    named = blobs("m", 300)
    choices = choose(
        Part((FLOODER,), named),
        Part((OTHER,), blobs("t", 40)),
        manifests=frozenset(named),
    )
    turns = begun(choices)
    assert turns.count(OTHER) >= 16
    assert turns[0] == FLOODER


def test_whom_a_blob_is_named_by_too_does_not_hold_it_up() -> None:
    """Who names another's blobs among its thousand does not take them into its queue."""
    own = blobs("o", 3)
    many = blobs("f", 500)
    turns = begun(choose(Part((FLOODER,), many | own), Part((OTHER,), own)))
    assert turns.count(OTHER) == 3


def test_the_same_generator_gives_the_same_choices() -> None:
    """Chance is an argument: two nodes with one generator choose alike."""
    parts = [Part((a,), blobs(str(a[0]), 30)) for a in (FLOODER, OTHER, THIRD)]
    assert begun(choose(*parts)) == begun(choose(*parts))


# --- bytes -----------------------------------------------------------------------------


def offer(who: AuthorId, number: int, size: int, *, here: bool = False) -> Offer:
    return Offer(SPACE, ContentId(bytes([number]) * 32), {who: size}, here)


def numbers(found: frozenset[tuple[SpaceId, ContentId]]) -> list[int]:
    return sorted(content[0] for _, content in found)


def test_what_fits_the_bytes_of_its_author_comes() -> None:
    """The others' contributions are none of its matter."""
    offers = [offer(FLOODER, n, 40) for n in range(1, 6)] + [offer(OTHER, 9, 90)]
    assert numbers(beyond(offers, 100, None)) == [3, 4, 5]
    assert numbers(beyond(reversed(offers), 100, None)) == [3, 4, 5]
    assert numbers(beyond(offers, 0, None)) == []


def test_what_is_here_counts_first_and_stays() -> None:
    """It takes its bytes whatever its id, and is never beyond."""
    offers = [offer(FLOODER, 1, 40), offer(FLOODER, 8, 500, here=True)]
    assert numbers(beyond(offers, 100, None)) == [1]


def test_a_small_one_comes_past_a_large_one() -> None:
    """One that is larger than all may take keeps out itself alone."""
    offers = [offer(FLOODER, 1, 400), offer(FLOODER, 2, 60)]
    assert numbers(beyond(offers, 100, None)) == [1]


def test_what_another_author_offers_too_counts_for_it() -> None:
    """An honest add of the same content brings it."""
    both = Offer(SPACE, ContentId(b"\x09" * 32), {FLOODER: 50, OTHER: 50}, here=False)
    offers = [offer(FLOODER, 1, 90), both]
    assert numbers(beyond(offers, 100, None)) == []
    assert numbers(beyond([*offers, offer(OTHER, 2, 60)], 100, None)) == [9]


def test_own_contributions_are_never_beyond() -> None:
    """What this home's author offers is for it to bring here."""
    assert numbers(beyond([offer(OTHER, 1, 500)], 100, OTHER)) == []


MODELS = {blob_id_of(data): data for data in (bytes([n]) * 100 for n in range(1, 9))}


def tight(limit: int, models: int) -> Home:
    """Return a node with a limit whose author 1 offers models of some 100 bytes each."""
    home = Home(members=1)
    for data in list(MODELS.values())[:models]:
        home.say(home.offer(1, data))
    home.node = Node(
        home.node.me,
        home.spaces,
        random.Random(7),
        "t",
        quotas=Quotas(author_bytes=limit),
    )
    home.open(1)
    return home


def fetched(home: Home, *fetches: Fetch) -> int:
    """Bring what is asked for now, and what follows; return how many models came."""
    asked = [*fetches, *only(home.do(Ticked(), after=10), Fetch)]
    for fetch in asked:
        home.blobs.receive(fetch.blob, MODELS[fetch.blob])
        asked += only(home.do(BlobStored(fetch.blob)), Fetch)
    return len(asked)


def test_contents_beyond_the_bytes_of_an_author_stay_away() -> None:
    """As many come as fit; that they wait is known, and not that they are complete."""
    home = tight(800, models=8)
    came = fetched(home)
    assert 1 <= came < 8
    assert fetched(home) == 0
    assert len(home.spaces.beyond()) == 8 - came
    assert len(home.spaces.missing(home.space)) == 8 - came
    assert wanted(home.spaces, home.space) == {}


def test_a_larger_quota_brings_them() -> None:
    """At once, without a restart."""
    home = tight(800, models=8)
    came = fetched(home)
    effects = home.do(QuotasChanged(Quotas(author_bytes=0)))
    assert came + fetched(home, *only(effects, Fetch)) == 8
    assert home.spaces.beyond() == frozenset()


def test_what_somebody_waits_for_comes_whatever_it_takes() -> None:
    """`fetch ID` asks for blobs: they are fetched, and nothing beside them."""
    home = tight(800, models=8)
    fetched(home)
    (blob, *_) = sorted(home.spaces.missing(home.space))
    effects = home.do(BlobsNeeded((blob,)))
    assert [fetch.blob for fetch in only(effects, Fetch)] == [blob]


def test_what_is_pinned_comes_whatever_it_takes() -> None:
    """The user said that it is to be here."""
    home = tight(800, models=8)
    came = fetched(home)
    pinned = home.spaces.beyond()
    home.spaces.pinned = lambda: pinned
    assert came + fetched(home) == 8


def test_an_add_that_lies_about_its_size_counts_by_its_manifest() -> None:
    """It is small until its manifest is here, and then as large as that says."""
    home = Home(members=1)
    body = home.offer(1, b"b" * 5000).record.body
    assert isinstance(body, Add)
    home.say(home.replica(1)._sign(replace(body, content_bytes=1)))
    home.spaces.author_bytes = 2000
    assert len(home.spaces.beyond()) == 1


def test_a_lie_about_the_size_of_anothers_contribution_holds_nothing_up() -> None:
    """Whoever adds what another offers, as larger than all bytes, says it for itself."""
    home = Home(members=2)
    honest = home.offer(1, b"b" * 100)
    home.say(honest)
    assert isinstance(honest.record.body, Add)
    body = replace(honest.record.body, content_bytes=5000)
    home.say(home.replica(2)._sign(body))
    (visible,) = home.spaces.view(home.space).visible
    assert len(visible.authors) == 2
    home.spaces.author_bytes = 2000
    assert home.spaces.beyond() == frozenset()
