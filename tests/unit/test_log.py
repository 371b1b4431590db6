"""Logs: values that share what they hold, and never show what came after them."""

from itertools import pairwise

from crdtmerge.bodies import RecordId, Unknown
from crdtmerge.identity import AuthorId, SigningKey
from crdtmerge.log import MemoryLog, Records
from crdtmerge.record import SignedRecord, make_record, sign_record

KEYS = [SigningKey(bytes([n]) * 32) for n in (1, 2)]


def _made(count: int, first: int = 0) -> list[SignedRecord]:
    made = []
    for n in range(first, first + count):
        key = KEYS[n % 2]
        record = make_record(
            space=b"s" * 32,
            author=key.public,
            author_seq=n,
            prev=b"p" * 32 if n else b"",
            auth=b"a" * 32,
            body=Unknown(("odd", "even", "third")[n % 3], n),
        )
        made.append(sign_record(record, key))
    return made


def _by_id(signed: list[SignedRecord]) -> dict[RecordId, SignedRecord]:
    return {one.record.id: one for one in signed}


def test_a_log_is_the_mapping_of_its_records() -> None:
    made = _made(20)
    log = MemoryLog(made)
    assert log == _by_id(made)
    assert list(log) == [one.record.id for one in made]
    assert list(log.since(15)) == made[15:]
    assert log.get(RecordId(bytes(32))) is None
    assert dict(Records(log)) == {one.record.id: one.record for one in made}


def test_a_value_never_shows_what_came_after_it() -> None:
    made = _made(40)
    values = [MemoryLog()]
    for start in range(0, 40, 8):
        values.append(values[-1].extended(_by_id(made[start : start + 8])))
    for number, log in enumerate(values):
        held = made[: 8 * number]
        assert log == _by_id(held)
        assert len(log) == 8 * number
        assert all((one.record.id in log) == (one in held) for one in made)
        for key in KEYS:
            own = [one for one in held if one.record.author == key.public]
            assert log.of_author(key.public) == own
        odd = [one for one in held if one.record.kind in {"odd", "third"}]
        assert log.of_kinds(frozenset({"odd", "third"})) == odd


def test_values_made_from_one_go_their_own_ways() -> None:
    """The second extension of a value shares nothing with the first."""
    early, left, right = _made(5), _made(5, 5), _made(5, 10)
    log = MemoryLog(early)
    ways = [log.extended(_by_id(more)) for more in (left, right, left)]
    for way, more in zip(ways, (left, right, left), strict=True):
        assert list(way.since(0)) == early + more
    assert list(log.since(0)) == early
    assert ways[0] == ways[2]
    assert all(one != other for one, other in pairwise(ways))


def test_nobody_is_an_author_without_records() -> None:
    log = MemoryLog(_made(3))
    assert log.of_author(AuthorId(b"x" * 32)) == []
    assert log.of_kinds(frozenset({"add"})) == []
