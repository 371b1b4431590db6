"""What this home attests, from the file that a resolve left to a signed attestation.

Owns looking for it, and the signature of the node's key. Does not own the file
(`store.attested`), nor who hears of it (`attesting`).

A resolve runs beside the node, in a process that asks for no passphrase, so it signs
nothing: the node does, which has its key at hand.
"""

from crdtmerge.bodies import SpaceId
from crdtmerge.sync.attestations import Attestation

from .effects import Resolved
from .home import Home
from .store.attested import AttestedFiles, Made


class Witness:
    """What a running node has said of the models of its home."""

    def __init__(self, home: Home) -> None:
        """Start with nothing said."""
        self._home = home
        self._files = AttestedFiles(home.path)
        self._seen: dict[str, tuple[int, int]] = {}

    def changed(self) -> bool:
        """Tell whether there is something new; it costs one look at a folder."""
        return self._files.stamps() != self._seen

    def news(self) -> list[Resolved]:
        """Return what is new, signed.

        SUBTLE: looked at before it is read; what changes meanwhile is read once more.
        """
        stamps = self._files.stamps()
        fresh = [
            name for name in sorted(stamps) if stamps[name] != self._seen.get(name)
        ]
        self._seen = stamps
        return [item for name in fresh if (item := self._signed(name)) is not None]

    def _signed(self, name: str) -> Resolved | None:
        try:
            space = SpaceId(bytes.fromhex(name))
        except ValueError:
            return None
        made = self._files.load(space)
        if made is None or space not in self._home.records.spaces():
            return None
        signed = said(space, self._home.node.public, made).sign(self._home.node)
        return Resolved(signed, made.tensors)


def said(space: SpaceId, node: bytes, made: Made) -> Attestation:
    """Return what a node says of a model that was resolved in its home."""
    return Attestation(
        space,
        node,
        made.counter,
        made.merge_id,
        made.model,
        made.contract,
        made.platform,
    )
