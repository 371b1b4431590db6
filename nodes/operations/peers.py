"""The verbs around peers: where their nodes listen, and which are connected.

Owns the addresses that a user adds to those that members announce. Does not own dialling
(`nodes.node`, `nodes.links`), nor who is a member (`policy`).
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from crdtmerge.bodies import ADDRESSES_MAX, SpaceId, is_address
from crdtmerge.errors import BadInputError, NotFoundError, VersionsApartError

from ..store.base import TriedFacts
from . import arguments as given
from .live import Answer, Arguments, Context, Tell
from .selection import SHORT, find_node

NOWHERE: Final = ("0.0.0.0", "[::]")  # noqa: S104  refused, not listened on
NO_NODE: Final = "it is used once a node runs here"
KNOWN_ALREADY: Final = "that was known already"
LISTED_MAX: Final = 8
"""Nodes that an error names; of more it says how many."""


def peers_add(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Keep addresses of a member's node on this machine, and try them at once.

    Raises:
        BadInputError: an address is not HOST:PORT, or too many are kept.
        NotFoundError: no member has such a node.
    """
    addresses = _addresses(given.texts(asked, "addresses"))
    node = _node(context, asked)
    before = _kept(context).get(node, ())
    after = tuple(dict.fromkeys((*before, *addresses)))
    if len(after) > ADDRESSES_MAX:
        message = (
            f"{len(after)} addresses of one node are above the {ADDRESSES_MAX} kept"
        )
        raise BadInputError(message, hint="`crdtmerge peers remove` forgets old ones")
    if after != before:
        context.home.local.set_addresses(node, after)
    if context.live is not None:
        context.live.moved(node)
    notes = [KNOWN_ALREADY] if after == before else []
    return {
        "node": node.hex(),
        "addresses": list(after),
        "new": after != before,
        "notes": notes if context.live else [*notes, NO_NODE],
    }


def peers_remove(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Forget addresses that the user added of a node: those named, or all.

    Raises:
        NotFoundError: nothing of the kind was added.
    """
    kept = _kept(context)
    text = given.text(asked, "node").strip().lower()
    fitting = [node for node in kept if text and node.hex().startswith(text)]
    if len(fitting) != 1:
        message = f"{text!r} names {len(fitting)} nodes with addresses that were added"
        hint = "`crdtmerge peers list` shows where each address comes from"
        raise NotFoundError(message, hint=hint)
    node, named = fitting[0], given.texts(asked, "addresses")
    unknown = [address for address in named if address not in kept[node]]
    if unknown:
        message = f"{unknown[0]!r} was not added for node {node.hex()[:SHORT]}"
        raise NotFoundError(message, hint=f"these were: {', '.join(kept[node])}")
    left = [address for address in kept[node] if named and address not in named]
    context.home.local.set_addresses(node, left)
    if context.live is not None:
        context.live.moved(node)
    removed = [address for address in kept[node] if address not in left]
    return {"node": node.hex(), "addresses": left, "removed": removed, "notes": []}


def _node(context: Context, asked: Arguments) -> bytes:
    node = find_node(context.spaces, given.text(asked, "node"))
    if node == context.home.node.public:
        message = "that is the node of this home"
        hint = "`crdtmerge node run --advertise` says where others reach it"
        raise BadInputError(message, hint=hint)
    return node


def _addresses(texts: list[str]) -> tuple[str, ...]:
    if not texts:
        raise BadInputError("no address was given", hint="give one as HOST:PORT")
    for text in texts:
        host = text.rpartition(":")[0]
        bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
        if not is_address(text) or bare_ipv6:
            hint = "an IPv6 address stands in brackets: [2001:db8::1]:7420"
            raise BadInputError(f"{text!r} is not HOST:PORT", hint=hint)
        if host in NOWHERE:
            message = f"{host} is where a node listens, not where others reach it"
            raise BadInputError(message, hint="give the name or address of its machine")
    return tuple(dict.fromkeys(texts))


def _kept(context: Context) -> dict[bytes, tuple[str, ...]]:
    """Return the addresses that the user added, by node."""
    return {facts.node: facts.addresses for facts in context.home.local.addresses()}


def peers_list(context: Context, _asked: Arguments, _tell: Tell) -> Answer:
    """Return the other nodes of our spaces: whose, where, and whether connected."""
    known = _sources(context)
    tried = {(t.node, t.address): t for t in context.home.local.tried()}
    connected = set(context.live.connected()) if context.live else set()
    apart = context.live.apart() if context.live else {}
    nodes = (context.spaces.members() | known.keys()) - {context.home.node.public}
    return {
        "running": context.live is not None,
        "peers": [
            {
                "node": node.hex(),
                "authors": [author.hex() for author in _authors(context, node)],
                "spaces": [s.hex() for s in sorted(context.spaces.shared_with(node))],
                "addresses": [
                    {
                        "address": address,
                        "from": sources,
                        **_evidence(tried.get((node, address))),
                    }
                    for address, sources in known.get(node, {}).items()
                ],
                "connected": node in connected,
                **_apart(apart.get(node)),
            }
            for node in sorted(nodes | connected)
        ],
        "notes": [],
    }


def _apart(error: VersionsApartError | None) -> dict[str, str]:
    return {} if error is None else {"problem": str(error), "hint": error.hint}


def _evidence(tried: TriedFacts | None) -> Answer:
    """Return what came of dialling an address; never dialled is as good as new."""
    if tried is None:
        return {"successes": 0, "failures": 0, "worked": None}
    return {
        "successes": tried.successes,
        "failures": tried.failures,
        "worked": tried.worked,
    }


def _sources(context: Context) -> dict[bytes, dict[str, list[str]]]:
    """Return each known address of each node, and who says it."""
    known: dict[bytes, dict[str, list[str]]] = {}

    def note(node: bytes, addresses: Iterable[str], source: str) -> None:
        for address in addresses:
            sources = known.setdefault(node, {}).setdefault(address, [])
            if source not in sources:
                sources.append(source)

    for node, addresses in _kept(context).items():
        note(node, addresses, "added")
    for space in context.spaces.all():
        for node, addresses in context.spaces.view(space).nodes.items():
            note(node, addresses, "announced")
        for facts in context.home.local.peers(space):
            note(facts.node, facts.addresses, "ticket")
    for node, addresses in context.live.listed().items() if context.live else ():
        note(node, addresses, "list")
    for tried in _found_out(context, known):
        source = "local network" if tried.local else "peer"
        note(tried.node, (tried.address,), source)
    return known


def _found_out(
    context: Context, known: Mapping[bytes, Collection[str]]
) -> list[TriedFacts]:
    """Return what came of dialling members at addresses that nothing kept here names."""
    members = context.spaces.members()
    return [
        tried
        for tried in context.home.local.tried()
        if tried.node in members and tried.address not in known.get(tried.node, ())
    ]


def _authors(context: Context, node: bytes) -> list[bytes]:
    """Return the authors that claim `node` in any of our spaces."""
    claims = (context.spaces.view(space).node_authors for space in context.spaces.all())
    return sorted({author for claim in claims for author in claim.get(node, ())})


def others(context: Context, space: SpaceId) -> set[bytes]:
    """Return the nodes of `space` beside ours."""
    return set(context.spaces.view(space).nodes) - {context.home.node.public}


def unreached(context: Context, spaces: Iterable[SpaceId]) -> str:
    """Return in words which nodes of `spaces` are not connected; empty if none."""
    connected = set(context.live.connected()) if context.live else set()
    away = set[bytes]().union(*(others(context, space) for space in spaces)) - connected
    known = _sources(context)
    words = [_where(node, known.get(node, {})) for node in sorted(away)]
    more = [f"and {len(words) - LISTED_MAX} more"] if len(words) > LISTED_MAX else []
    return ", ".join([*words[:LISTED_MAX], *more])


def _where(node: bytes, addresses: Mapping[str, object]) -> str:
    return f"{node.hex()[:SHORT]} ({' '.join(addresses) or 'no address known'})"
