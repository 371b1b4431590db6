"""Attestations: what model a node says it computed, signed; the latest of each node.

Owns the form of an attestation and its check, and the table of one space. Does not own
who may attest (the caller says who is a member), when attestations travel
(`nodes.attesting`), nor the tensors behind a model digest (`listings`).

An attestation is no record: it is not in the set, moves no root, and is forgotten with the
process that heard it. The table joins by the largest of each node, so it does not depend
on the order in which attestations come, nor on how often.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import DIGEST_BYTES, Domain, digest, digest_value
from crdtmerge.errors import EncodingError, MalformedAttestationError
from crdtmerge.identity import KEY_BYTES, Purpose, Signer, verify
from crdtmerge.sync.messages import MARK_BYTES, Held, SignedBytes

VERSION: Final = 1
ATTESTATION_BYTES_MAX: Final = 512
"""Largest encoded attestation."""
PLATFORM_CHARACTERS_MAX: Final = 128
COUNTER_MAX: Final = 2**63 - 1
CONTRACT_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a node says: resolving the state `merge_id` gave it the model `model`.

    `counter` only rises at one node: of two attestations the larger one counts. `contract`
    is the version of the numeric contract, and `platform` says for people what computed it.
    """

    space: SpaceId
    node: bytes
    counter: int
    merge_id: bytes
    model: bytes
    contract: int
    platform: str

    def encode(self) -> bytes:
        """Return the canonical bytes, which are signed; `decode_attestation` inverts."""
        value: list[Value] = [
            VERSION, self.space, self.node, self.counter, self.merge_id, self.model,
            self.contract, self.platform,
        ]  # fmt: skip
        return encode(value)

    def sign(self, key: Signer) -> SignedBytes:
        """Return it signed with the transport key of the node that it names."""
        data = self.encode()
        return SignedBytes(data, key.sign(Purpose.ATTESTATION, data))

    def contradicts(self, other: "Attestation") -> bool:
        """Tell whether both cannot be right: one state, one contract, two models."""
        return (
            (self.space, self.merge_id) == (other.space, other.merge_id)
            and self.contract == other.contract
            and self.model != other.model
        )


def is_platform(text: str) -> bool:
    """Tell whether a text may say what computed a model: it is shown on terminals."""
    short = 0 < len(text) <= PLATFORM_CHARACTERS_MAX
    return short and text.isascii() and text.isprintable()


def decode_attestation(data: bytes) -> Attestation:
    """Return the attestation whose canonical bytes are `data`; no signature is checked.

    Raises:
        MalformedAttestationError: they are none of version 1 within the limits.
    """
    try:
        value = decode(data, ATTESTATION_BYTES_MAX)
    except EncodingError as e:
        raise MalformedAttestationError(str(e)) from e
    match value:
        case [
            int(version), bytes(space), bytes(node), int(counter), bytes(merge_id),
            bytes(model), int(contract), str(platform),
        ] if version == VERSION:  # fmt: skip
            found = Attestation(
                SpaceId(space), node, counter, merge_id, model, contract, platform
            )
        case _:
            raise MalformedAttestationError("bytes that are no attestation")
    digests = (found.space, found.merge_id, found.model)
    well_formed = (
        {len(item) for item in digests} == {DIGEST_BYTES}
        and len(found.node) == KEY_BYTES
        and 0 < found.counter <= COUNTER_MAX
        and 0 < found.contract <= CONTRACT_MAX
        and is_platform(found.platform)
    )
    if not well_formed:
        raise MalformedAttestationError("an attestation with a field out of bounds")
    return found


@dataclass(frozen=True, slots=True)
class Heard:
    """An attestation as it came, and its bytes as they go on."""

    attestation: Attestation
    signed: SignedBytes
    held: Held = field(init=False, compare=False)
    """What tells a peer that this one is here; made once, for beats are many."""

    def __post_init__(self) -> None:
        """Make what peers are told."""
        mark = digest(Domain.ATTESTED, self.signed.data)[:MARK_BYTES]
        held = Held(self.attestation.node, self.attestation.counter, mark)
        object.__setattr__(self, "held", held)

    @property
    def place(self) -> tuple[int, bytes]:
        """What attestations of one node are compared by.

        SUBTLE: a node may sign two of one counter. The bytes decide then, so that all
        tables end up alike.
        """
        return self.attestation.counter, self.signed.data


def check(signed: SignedBytes) -> Heard:
    """Return the attestation in `signed`, which its node has signed.

    Raises:
        MalformedAttestationError: it is none.
        BadSignatureError: its node did not sign it.
    """
    found = decode_attestation(signed.data)
    verify(found.node, Purpose.ATTESTATION, signed.data, signed.signature)
    return Heard(found, signed)


@dataclass(slots=True)
class Table:
    """The latest attestation of each node of one space.

    `latest` is replaced as a whole and never changed, so that other threads may read it.
    """

    space: SpaceId
    latest: Mapping[bytes, Heard] = field(default_factory=dict)
    _marked: tuple[Mapping[bytes, Heard], bytes] | None = None
    """The last mark, and what it is of."""

    def news(
        self, signed: SignedBytes, members: Collection[bytes]
    ) -> Attestation | None:
        """Return what `signed` says if it is of a member and later than what is here.

        Nothing is changed, and no signature is checked, which is dear.

        Raises:
            MalformedAttestationError: it is no attestation of this space.
        """
        found = decode_attestation(signed.data)
        if found.space != self.space:
            raise MalformedAttestationError("an attestation of another space")
        if found.node not in members:
            return None
        known = self.latest.get(found.node)
        place = found.counter, signed.data
        return found if known is None or place > known.place else None

    def take(self, signed: SignedBytes, members: Collection[bytes]) -> Heard | None:
        """Keep `signed` if it is news and its node signed it; return it if so.

        Raises:
            MalformedAttestationError: it is no attestation of this space.
            BadSignatureError: its node did not sign it; nothing is changed.
        """
        if self.news(signed, members) is None:
            return None
        heard = check(signed)
        self.latest = {**self.latest, heard.attestation.node: heard}
        return heard

    def keep_only(self, members: Collection[bytes]) -> None:
        """Forget who is no member any more."""
        self.latest = {n: h for n, h in self.latest.items() if n in members}

    @property
    def mark(self) -> bytes:
        """What names the whole table, in a few bytes; empty for an empty one.

        Made once for each state of the table: a beat, said or heard, costs its sender next
        to nothing, and must not cost us a table of a thousand nodes.
        """
        if self._marked is None or self._marked[0] is not self.latest:
            self._marked = self.latest, self._mark()
        return self._marked[1]

    def _mark(self) -> bytes:
        if not self.latest:
            return b""
        value: list[Value] = [[h.node, h.counter, h.mark] for h in self.held()]
        return digest_value(Domain.ATTESTED, value)[:MARK_BYTES]

    def held(self) -> tuple[Held, ...]:
        """Return what is here, as a peer is told."""
        return tuple(self.latest[node].held for node in sorted(self.latest))

    def unknown_to(self, held: Iterable[Held]) -> tuple[SignedBytes, ...]:
        """Return what a peer that holds these lacks."""
        theirs = {item.node: (item.counter, item.mark) for item in held}
        ours = ((node, self.latest[node]) for node in sorted(self.latest))
        return tuple(
            heard.signed
            for node, heard in ours
            if _may_lack(heard.held, theirs.get(node))
        )


def _may_lack(ours: Held, theirs: tuple[int, bytes] | None) -> bool:
    """Tell whether who holds `theirs` of a node might want ours.

    Of two with one counter the asker decides by their bytes.
    """
    if theirs is None or ours.counter > theirs[0]:
        return True
    return ours.counter == theirs[0] and ours.mark != theirs[1]
