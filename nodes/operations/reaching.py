"""The verb `doctor_reach`: whether peers reach this node where it says that it listens.

Owns the words: what was found, and what to do. Does not own the trials, which peers make
(`nodes.probing`, `nodes.reaching`).
"""

from collections.abc import Mapping
from typing import Final

from crdtmerge.errors import NodeNeededError
from crdtmerge.sync.messages import Outcome, Probed, ProbeReply

from .live import Answer, Arguments, Context, Live, Tell

PATIENCE_S: Final = 15.0
POLL_S: Final = 0.1
WORDS: Final[Mapping[int, str]] = {
    Outcome.REACHED: "reached",
    Outcome.REFUSED: "nothing listens there",
    Outcome.SILENT: "no answer",
    Outcome.NOWHERE: "the name leads nowhere",
    Outcome.STRANGER: "something else answered",
    Outcome.OURS: "not tried: it lies in a network of its own",
}
ADVICE: Final[Mapping[int, str]] = {
    Outcome.REFUSED: "the port of that address leads to no node: forward it to the port"
    " that this node listens on, and run the node with --listen 0.0.0.0:PORT",
    Outcome.SILENT: "a router or firewall drops what comes: forward the port, or open it",
    Outcome.NOWHERE: "--advertise names a host that peers cannot look up: give its address",
    Outcome.STRANGER: "the port leads to another program or another node: forward it to"
    " this node",
    Outcome.OURS: "what is announced is inside of a network: run the node with"
    " --advertise and the address that peers outside see",
}
ONE_WAY: Final = (
    "while this node can dial others it gets and gives everything over those connections;"
    " two nodes that nobody can dial need a third one between them"
)


def doctor_reach(context: Context, _asked: Arguments, tell: Tell) -> Answer:
    """Ask connected peers to call this node back; return what they found.

    Raises:
        NodeNeededError: no node runs here.
    """
    live = context.live
    if live is None:
        raise NodeNeededError(
            "whether peers reach this node only a running one can ask"
        )
    connected = live.connected()
    live.want_probes()
    told = _answers(live, tell)
    found = [_said(node, reply) for node, reply in sorted(told.items())]
    outcomes = [p for reply in told.values() if reply is not None for p in reply.found]
    return {
        "announced": list(live.addresses),
        "connected": len(connected),
        "asked": found,
        "reached": any(p.outcome == Outcome.REACHED for p in outcomes)
        if outcomes
        else None,
        "advice": _advice(outcomes, connected=bool(connected), asked=bool(told)),
        "notes": [],
    }


def _answers(live: Live, tell: Tell) -> Mapping[bytes, ProbeReply | None]:
    """Wait until all that were asked have answered, or for as long as that may take."""
    end = live.now() + PATIENCE_S
    live.pause(POLL_S)
    told = live.probed()
    while None in told.values() and live.now() < end:
        done = sum(reply is not None for reply in told.values())
        tell({"work": "waiting for peers", "done": done, "total": len(told)})
        live.pause(POLL_S)
        told = live.probed()
    return told


def _said(node: bytes, reply: ProbeReply | None) -> Answer:
    if reply is None:
        return {"node": node.hex(), "answered": False, "wait_s": 0, "found": []}
    return {
        "node": node.hex(),
        "answered": True,
        "wait_s": reply.wait_s,
        "seen_from": reply.seen_from,
        "found": [
            {
                "address": probed.address,
                "outcome": _name(probed.outcome),
                "words": WORDS.get(probed.outcome, "found what we do not know"),
            }
            for probed in reply.found
        ],
    }


def _name(outcome: int) -> str:
    known = outcome in {int(each) for each in Outcome}
    return Outcome(outcome).name.lower() if known else "unknown"


def _advice(outcomes: list[Probed], *, connected: bool, asked: bool) -> list[str]:
    if not connected:
        return ["no peer is connected, so nobody can be asked: `crdtmerge peers list`"]
    if not asked:
        return ["the peers that are connected cannot try it: they run an older version"]
    if not outcomes:
        return ["no peer tried it now: ask again in a while"]
    if any(probed.outcome == Outcome.REACHED for probed in outcomes):
        return []
    kinds = sorted({probed.outcome for probed in outcomes})
    return [*(ADVICE[kind] for kind in kinds if kind in ADVICE), ONE_WAY]
