"""The verb `wait`: until this home and the peers it is connected to agree.

Owns what *converged* means, which the command's help and docs/guide.md repeat:

* no byte that a visible contribution needs is missing here, and
* every connected peer of the space, and at least so many as asked for, has reported since
  the command began, and last reported the very record root that this home has.

So whatever a connected peer had when the command began is here. It says nothing of nodes
that are not connected, nor of bytes that a peer may still be fetching. Does not own how
roots are compared (`crdtmerge.sync`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import NodeNeededError, NotConvergedError
from crdtmerge.policy import Rank
from crdtmerge.sync.messages import Heartbeat

from . import arguments as given
from .live import Answer, Arguments, Context, Live, Tell
from .peers import others, unreached
from .publishing import replica
from .selection import SHORT, choose_space

POLL_S: Final = 0.2
Reports = Mapping[bytes, Heartbeat | None]


@dataclass(frozen=True, slots=True)
class _State:
    """How things stand: our root, what is missing, who said what since the begin."""

    root: bytes
    missing: Mapping[BlobId, int]
    heard: Reports

    def agreeing(self) -> list[bytes]:
        """Return the peers that reported our root."""
        return [
            p for p, heard in self.heard.items() if heard and heard.root == self.root
        ]

    def converged(self, least: int) -> bool:
        """Tell whether nothing is missing and all peers, at least so many, agree."""
        agree = len(self.agreeing())
        return not self.missing and agree == len(self.heard) and agree >= least


def wait(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Return once this home and its connected peers agree on the space.

    Raises:
        NotConvergedError: the time is over; the message says who differs.
        NotAllowedError: this author was revoked or banned: no peer will connect.
        NodeNeededError: no node runs here.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    _require_rights(context, space)
    timeout = given.seconds(asked, "timeout")
    asked_peers = given.count(asked, "peers", None, least=0)
    live = live_of(context)
    began, start = live.reports(space), live.now()
    while True:
        state = _look(context, live, space, began)
        least = asked_peers
        if least is None:
            least = 1 if others(context, space) else 0
        if state.converged(least):
            if state.agreeing():
                context.home.anchor.compared(space)  # if this home was restored
            return _answer(context, space, state)
        if timeout is not None and live.now() - start >= timeout:
            raise _not_converged(context, space, state, least, timeout)
        agree, total = len(state.agreeing()), max(len(state.heard), least)
        tell({"work": "peers that agree", "done": agree, "total": total})
        live.pause(POLL_S)


def _require_rights(context: Context, space: SpaceId) -> None:
    """Refuse to wait for peers that refuse us.

    Raises:
        NotAllowedError: this author was revoked or banned, as far as this home knows.
    """
    if context.key.public in context.spaces.view(space).rightless:
        replica(context, space).authority(Rank.READER)  # says which


def live_of(context: Context) -> Live:
    """Return the running node; without one nothing would ever come.

    Raises:
        NodeNeededError: none runs. Whoever can start one then does, so what is asked is
            checked before this.
    """
    if context.live is None:
        raise NodeNeededError("no node runs here")
    return context.live


def _look(context: Context, live: Live, space: SpaceId, began: Reports) -> _State:
    """Return how things stand.

    SUBTLE: what a peer said before the command began does not count, even if it is our
    root: it may have moved on before, and said nothing yet. Reports are told apart by
    identity, for a later one may say the same.
    """
    heard = {
        peer: None if report is began.get(peer) else report
        for peer, report in live.reports(space).items()
    }
    root = context.spaces.opset(space).root
    return _State(root, context.spaces.missing(space), heard)


def _answer(context: Context, space: SpaceId, state: _State) -> Answer:
    view = context.spaces.view(space)
    agreeing = state.agreeing()
    return {
        "space": space.hex(),
        "name": context.spaces.name(space),
        "converged": True,
        "record_root": state.root.hex(),
        "visible_root": view.visible_root.hex(),
        "merge_id": view.merge_id(view.recipe).hex() if view.recipe else None,
        "contributions": len(view.visible),
        "agree": len(agreeing),
        "peers": [peer.hex() for peer in agreeing],
        "not_connected": sorted(
            node.hex() for node in others(context, space) - state.heard.keys()
        ),
        "notes": [],
    }


def _quotas(context: Context, space: SpaceId) -> list[str]:
    """Return what quotas of this home keep away."""
    held = context.live.waiting(space) if context.live else ()
    records = sum(h.records for h in held)
    beyond = sum(where == space for where, _ in context.spaces.beyond())
    words = []
    if records:
        words.append(f"{records} records wait for the quota of their author")
    if beyond:
        words.append(f"{beyond} contributions are beyond the bytes of their author")
    return words


def _not_converged(
    context: Context, space: SpaceId, state: _State, least: int, timeout: float
) -> NotConvergedError:
    """Return the error that says who differs, and what is missing."""
    reasons: list[str] = []
    for peer, heard in state.heard.items():
        short = peer.hex()[:SHORT]
        if heard is None:
            reasons.append(f"peer {short} has not reported since")
        elif heard.root != state.root:
            reasons.append(f"peer {short} has root {heard.root.hex()[:SHORT]}")
    if state.missing:
        size = sum(state.missing.values())
        reasons.append(f"{len(state.missing)} blobs ({size} bytes) are missing here")
    reasons += _quotas(context, space)
    agree = len(state.agreeing())
    if agree < least:
        away = unreached(context, [space])
        known = len(others(context, space))
        lost = f"not connected: {away}" if away else f"{known} are known in all"
        reasons.append(f"{agree} of {least} peers agree; {lost}")
    name, root = context.spaces.name(space), state.root.hex()[:SHORT]
    text = f"space {name!r} has not converged in {timeout:g} s: root {root} here"
    return NotConvergedError("; ".join([text, *reasons]))
