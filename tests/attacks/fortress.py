"""The fortress: one real home with one real space, and the doors that attackers knock on.

Owns the home, who is a member of its space with which node, and when a node runs on it.
Does not own what is compared before and after (`guard`), what attackers can send (`siege`),
nor the attacks.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crdtmerge.bodies import Add, Body, NodeAddress, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import CrdtMergeError
from crdtmerge.forks import Fork
from crdtmerge.identity import SigningKey
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.policy import Rank
from crdtmerge.record import SignedRecord
from nodes.home import Home, create_home
from nodes.spaces import Spaces
from tests.attacks.guard import (
    PYTHON_BYTES_MAX,
    State,
    guarded,
    state_of,
    within_memory,
)
from tests.attacks.siege import Siege, node_of
from tests.integration.living import BASE, blob_of, living, run
from tests.properties.cast import AUTHORS, CLEO, OWNERS, STRANGER, Pen, key, write

KEEPER: Final = key("fortress")
"""The author of the home: a maintainer of the space."""
Attack = Callable[[Siege], Awaitable[None]]


def model(*parts: bytes) -> Manifest:
    """Return the manifest of a model with these tensors."""
    entries = tuple(
        TensorEntry(f"t{n:03}", "U8", (len(data),), blob_of(data))
        for n, data in enumerate(parts)
    )
    return Manifest("full", BASE, entries)


def add_of(manifest: Manifest, *, weight: int = DECIMAL_UNIT, note: str = "") -> Add:
    """Return the body of an honest add."""
    return Add(
        manifest.content_id,
        manifest.blob,
        len(manifest.encode()),
        manifest.size,
        weight,
        b"",
        note,
    )


@dataclass
class Fortress:
    """A home on the disk whose author keeps one space, with two contributions in it."""

    folder: Path
    home: Home
    pen: Pen
    """Writes what members say, as their own programs would; the home has it all."""

    @classmethod
    def at(
        cls,
        folder: Path,
        mode: str = "members",
        *,
        owners: tuple[SigningKey, ...] = OWNERS,
        threshold: int = 1,
        quarantine: bool = False,
    ) -> "Fortress":
        """Found it below `folder`, of which all else is the attackers'."""
        home = create_home(
            folder / "home",  # a socket lies in it: its path must be short
            author_seed=KEEPER.seed,
            node_seed=node_of(KEEPER).seed,
            generation=digest(Domain.SEED, b"generation")[:16],
        )
        pen = Pen.start(mode, owners=owners, threshold=threshold, quarantine=quarantine)
        fortress = cls(folder, home, pen)
        seat = pen.admit(OWNERS[0], KEEPER, Rank.MAINTAINER)
        pen.approve(seat.record.id, *owners[1:threshold])
        for author in (KEEPER, *AUTHORS):
            if author is not STRANGER:
                fortress.say(author, NodeAddress(node_of(author).public, ()))
        fortress.keep()
        for number in range(2):
            fortress.contribute(CLEO, bytes([number]) * 100)
        return fortress

    @property
    def space(self) -> SpaceId:
        """The space."""
        return SpaceId(self.pen.genesis.record.id)

    @property
    def attackers(self) -> Path:
        """A folder of the attackers' own."""
        path = self.folder / "attackers"
        path.mkdir(exist_ok=True)
        return path

    # --- what members say before an attack -----------------------------------------------

    def say(self, author: SigningKey, body: Body) -> SignedRecord:
        """Write an author's next record; `keep` brings it into the home."""
        return self.pen.write(author, body)

    def keep(self) -> None:
        """Let the home hold all that the pen wrote."""
        spaces = Spaces(self.home.records, self.home.blobs)
        spaces.commit(self.space, list(self.pen.known.values()))

    def contribute(self, author: SigningKey, *parts: bytes) -> SignedRecord:
        """Let an author contribute a model whose bytes are here."""
        manifest = model(*parts)
        for data in (manifest.encode(), *parts):
            self.home.blobs.put(data)
        signed = self.say(author, add_of(manifest))
        self.keep()
        return signed

    def next(
        self, author: SigningKey, body: Body, *, critical: bool = False
    ) -> SignedRecord:
        """Return what an author would sign next; nobody has it yet."""
        auth = self.pen.grants.get(author.public, self.pen.genesis.record)
        after = self.pen.last.get(author.public)
        return write(author, auth, body, after=after, critical=critical)

    # --- attacks -------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """All that an attack must leave as it was."""
        return state_of(self.folder)

    def spaces(self) -> Spaces:
        """Return the sets as they lie on the disk."""
        return Spaces(self.home.records, self.home.blobs)

    def refuses(
        self, error: type[CrdtMergeError], match: str | None = None
    ) -> AbstractContextManager[Any]:
        """Check that what is attempted fails by exactly `error`, and changes nothing."""
        return guarded(self.folder, error, match)

    def withstands(
        self,
        error: type[CrdtMergeError] | None,
        attack: Attack,
        *,
        python: int = PYTHON_BYTES_MAX,
    ) -> None:
        """Let `attack` meet the running node; all must be as it was.

        The node must have refused it for exactly `error`, once or more, and for nothing
        else; None if it has to bear with it. `python` is what its objects may take.
        """

        async def scenario(siege: Siege) -> None:
            with within_memory(python):
                before = self.state
                root = siege.root
                await attack(siege)
                await siege.settled()
            assert set(siege.errors) == ({error.__name__} if error else set())
            assert siege.root == root
            assert self.state == before

        self.runs(scenario)

    def takes(
        self,
        records: Sequence[SignedRecord],
        attack: Attack,
        *,
        shown: bool = False,
    ) -> None:
        """Let `attack` meet the running node: these records are new, nothing else is.

        If they are a fork the node may have `shown` that, by a record of its own.
        """

        async def scenario(siege: Siege) -> None:
            with within_memory():
                before = self.state
                ids = set(siege.ids)
                await attack(siege)
                await siege.settled()
            assert siege.errors == []
            new, found = siege.ids - ids, siege.opset.records
            told = {k for k in new if found[k].author == KEEPER.public and shown}
            assert all(isinstance(found[key].body, Fork) for key in told)
            assert new - told == {signed.record.id for signed in records}
            after = self.state
            anchor = {p for p in before.files if p.endswith("anchor") and told}
            assert {p: f for p, f in after.files.items() if p not in anchor} == {
                p: f for p, f in before.files.items() if p not in anchor
            }
            changed = {t for t in after.tables if after.tables[t] != before.tables[t]}
            tables = {name.rpartition(":")[2] for name in changed}
            grown = {"records", "spaces", "parts", "placed"}
            due = grown if records else set()
            may = {"tries"} if records else set()  # a small trie has no rows
            assert tables - may - ({"settings"} if told else set()) == due

        self.runs(scenario)

    def runs(self, scenario: Attack) -> None:
        """Run the node for the time of `scenario`."""

        async def work() -> None:
            async with living(self.home) as node:
                await scenario(Siege(self.space, node))

        run(work())
