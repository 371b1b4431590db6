"""A sealed key opens with its passphrase and no other, and damage is told from a typo."""

import re
import time

import pytest

from crdtmerge.digest import Domain, digest
from crdtmerge.errors import BadInputError, WrongPassphraseError
from crdtmerge.identity import Purpose, SigningKey, verify
from nodes import sealing
from nodes.sealing import DEFAULT_COST, MEMORY_MAX, Cost, parse, seal

SEED, SECRET = bytes(range(32)), b"correct horse"
CHEAP = Cost(4, 8, 1)
SALT, NONCE = b"s" * 16, b"n" * 12


def sealed(seed: bytes = SEED, secret: bytes = SECRET, cost: Cost = CHEAP) -> bytes:
    """Return a sealed key at a cost that tests can pay."""
    return seal(seed, secret, salt=SALT, nonce=NONCE, cost=cost)


def checked(data: bytes) -> bytes:
    """Return an edited form with the checksum that it would have to have."""
    lines = data[: data.rindex(b"checksum ")]
    checksum = digest(Domain.KEY_FILE, lines)[:8].hex()
    return lines + f"checksum {checksum}\n".encode()


def test_a_sealed_key_tells_who_it_is_and_opens_with_its_passphrase() -> None:
    """At the cost that users pay; the public part needs no passphrase."""
    data = seal(SEED, SECRET, salt=SALT, nonce=NONCE)
    key = parse(data)
    assert key.public == SigningKey(SEED).public
    signature = key.open(SECRET).sign(Purpose.RECORD, b"message")
    verify(key.public, Purpose.RECORD, b"message", signature)


def test_a_guess_is_dear_in_memory_and_time() -> None:
    """The default takes 128 MiB, and far more time than a plain digest would."""
    assert DEFAULT_COST.memory == 128 << 20
    data = seal(SEED, SECRET, salt=SALT, nonce=NONCE)
    assert b"\nscrypt 17 8 1 " in data
    start = time.process_time()
    with pytest.raises(WrongPassphraseError):
        parse(data).open(b"guess")
    assert time.process_time() - start > 0.05


@pytest.mark.parametrize(
    "guess", [b"", b"correct hors", b"correct horse ", b"Correct horse"]
)
def test_another_passphrase_opens_nothing(guess: bytes) -> None:
    """And the error says nothing about the one or the other."""
    with pytest.raises(WrongPassphraseError) as caught:
        parse(sealed()).open(guess)
    assert str(caught.value) == "the passphrase does not open the key"
    assert caught.value.__cause__ is None


def test_the_seed_is_not_in_the_sealed_form() -> None:
    """Nor is it in what Python shows of a key."""
    data = sealed()
    assert SEED not in data
    assert SEED.hex().encode() not in data
    assert SEED.hex() not in repr(parse(data).open(SECRET))


def test_salt_and_nonce_make_each_form_another() -> None:
    """The same key and passphrase, sealed twice, share only the public part."""
    first = seal(SEED, SECRET, salt=b"1" * 16, nonce=NONCE, cost=CHEAP)
    second = seal(SEED, SECRET, salt=b"2" * 16, nonce=NONCE, cost=CHEAP)
    boxes = [data.splitlines()[3] for data in (first, second)]
    assert boxes[0] != boxes[1]


def test_any_changed_byte_is_told_as_damage_without_a_passphrase() -> None:
    """Every byte of the file, and every length that it may be cut to."""
    data = sealed()
    for index in range(len(data)):
        changed = bytearray(data)
        changed[index] ^= 1
        with pytest.raises(BadInputError):
            parse(bytes(changed))
        with pytest.raises(BadInputError):
            parse(data[:index])
    for more in (b"\n", b"x", data):
        with pytest.raises(BadInputError, match="was cut or changed"):
            parse(data + more)


def test_a_public_part_of_another_key_is_found_out_on_opening() -> None:
    """Also with the checksum mended: the cipher covers what stands in the clear."""
    other = SigningKey(b"o" * 32).public.hex().encode()
    mine = SigningKey(SEED).public.hex().encode()
    forged = sealed().replace(mine, other)
    with pytest.raises(BadInputError, match="was cut or changed"):
        parse(forged)
    with pytest.raises(WrongPassphraseError):
        parse(checked(forged)).open(SECRET)


def test_who_knows_the_passphrase_cannot_name_another_key_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A form sealed around a seed that is not that of the public part is refused."""

    class Liar(SigningKey):
        def __init__(self, seed: bytes) -> None:
            super().__init__(seed)
            self.public = SigningKey(b"o" * 32).public

    with monkeypatch.context() as patched:
        patched.setattr(sealing, "SigningKey", Liar)
        data = sealed()
    with pytest.raises(BadInputError, match="not the one that its file names"):
        parse(data).open(SECRET)


@pytest.mark.parametrize(
    "numbers", [b"18 16 1", b"30 8 1", b"99 99 99", b"17 8 5", b"1 1 99", b"19 8 1"]
)
def test_a_cost_that_would_exhaust_the_machine_is_refused_unopened(
    numbers: bytes,
) -> None:
    """Whatever the checksum says: the limits hold before any derivation."""
    hostile = checked(re.sub(rb"scrypt \d+ \d+ \d+", b"scrypt " + numbers, sealed()))
    memory = Cost(*(int(n) for n in numbers.split())).memory
    if numbers == b"1 1 99":  # dear to nobody
        assert parse(hostile).public == SigningKey(SEED).public
        return
    assert memory > MEMORY_MAX or numbers == b"17 8 5"
    with pytest.raises(BadInputError, match="above the limit"):
        parse(hostile)


@pytest.mark.parametrize(
    "numbers",
    [b"0 8 1", b"17 0 1", b"17 8 0", b"-1 8 1", b"017 8 1", b"17 8", b"x 8 1"],
)
def test_a_cost_that_is_none_is_damage(numbers: bytes) -> None:
    """One spelling of each number, and none of zero."""
    hostile = checked(re.sub(rb"scrypt \d+ \d+ \d+", b"scrypt " + numbers, sealed()))
    with pytest.raises(BadInputError, match="was cut or changed"):
        parse(hostile)


def test_another_version_asks_for_an_upgrade() -> None:
    """It is not called damaged."""
    newer = sealed().replace(b"crdtmerge key 1", b"crdtmerge key 2")
    with pytest.raises(
        BadInputError, match="version 2, this program reads 1"
    ) as caught:
        parse(newer)
    assert caught.value.hint == "upgrade crdtmerge"
