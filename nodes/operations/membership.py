"""The verbs around spaces: found one, hand out a ticket, enter one.

Owns the order in which a space comes into this home: its base first, its records last.
Does not own the protocol of joining (`nodes.join`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import (
    NAME_CHARACTERS_MAX,
    NONCE_BYTES,
    OWNERS_MAX,
    SpaceId,
)
from crdtmerge.errors import (
    BadInputError,
    BaseMismatchError,
    ConflictError,
    MalformedRecordError,
    NotAllowedError,
    NotFoundError,
)
from crdtmerge.formats.ingest import Model
from crdtmerge.formats.tied_base import as_base
from crdtmerge.identity import AuthorId
from crdtmerge.numerics import TensorFacts
from crdtmerge.orset import OpSet
from crdtmerge.policy import COUNCIL_LEAST, Rank
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica, found_space

from ..store.base import BaseFacts
from ..ticket import SECRET_BYTES, Ticket, decode_ticket
from . import arguments as given
from .contents import Bringing, bringing_in, keep_exponents, read_base
from .facts import identity_facts
from .live import Answer, Arguments, Context, Tell
from .publishing import announce_node, replica
from .selection import SHORT, choose_space, whole_key
from .standing import left

MODES: Final = ("members", "open")
JOIN_ADDRESSES: Final = "join_addresses"
"""Where the setting is kept that a running node leaves for later tickets."""
OPEN_SPACE: Final = (
    "in an open space keys cost nothing: anybody may contribute,"
    " and a ban of an author keeps nobody out"
)

SOLE_OWNER: Final = (
    "you are its only owner: keep a spare key (`crdtmerge key spare`), for nobody can"
    " replace yours"
)
TWO_OWNERS: Final = (
    "of two owners neither can replace the other's key alone: name a third, or keep spare"
    " keys (`crdtmerge key spare`)"
)
REBASED: Final = "this home takes part in the space already; it now uses this base"
ALL: Final = "all"
"""In place of a ticket: every ticket that this home made for the space."""
NOT_RUNNING: Final = "no node runs here: start `crdtmerge node run` before it is used"


def space_create(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Found a space around a base; its bytes stay where they are.

    Raises:
        UnknownNameError: no such strategy or parameter.
        BadInputError: the name, the mode or the base cannot be used.
        ConflictError: a space of this name is here already.
    """
    from crdtmerge.strategies import check_shared, make_recipe

    recipe = make_recipe(given.text(asked, "strategy"), given.pairs(asked, "params"))
    check_shared(recipe)
    name, folder = given.text(asked, "name"), given.path(asked, "base")
    mode = given.optional_text(asked, "mode") or "members"
    _check_name(context, name, mode)
    rules = _rules(context, asked)
    context.key.ready()
    with bringing_in(context, tell, reference=True, moved=True) as bringing:
        model, found = read_base(folder, bringing)
        genesis = _genesis(context, name, mode, model, rules)
        space = genesis.record.space_id
        founded = Replica(OpSet(space).insert([genesis]), context.home.signer(space))
        records = [genesis, founded.set_recipe(recipe)]
        facts = take_base(bringing, model)
        context.home.local.set_base(space, facts.folder, facts.manifest)
        keep_exponents(context.home.local, space, found)
        bringing.signing = True
        context.spaces.publish(space, records)
    if context.live is not None:
        announce_node(context, context.home.node.public, context.live.addresses)
    return {
        "space": space.hex(),
        "name": name,
        "mode": mode,
        "owners": [owner.hex() for owner in rules.owners],
        "threshold": rules.threshold,
        "quarantine": rules.quarantine,
        "base": model.manifest.content_id.hex(),
        "recipe": recipe.describe(),
        "tensors": len(model.manifest.tensors),
        "bytes": model.manifest.size,
        "notes": [*([OPEN_SPACE] if mode == "open" else []), *_owner_remarks(rules)],
    }


def _check_name(context: Context, name: str, mode: str) -> None:
    if mode not in MODES:
        raise BadInputError(f"mode {mode!r} is none of {', '.join(MODES)}")
    if name in {context.spaces.name(space) for space in context.spaces.all()}:
        message = f"a space named {name!r} is in this home already"
        raise ConflictError(message, hint="choose another name")


@dataclass(frozen=True, slots=True)
class _Rules:
    """Who owns a space, how many of them must sign, and whether forks cut off."""

    owners: tuple[AuthorId, ...]
    threshold: int
    quarantine: bool


def _rules(context: Context, asked: Arguments) -> _Rules:
    """Return the rules that a space is to have.

    Raises:
        BadInputError: an owner is no key, or the threshold cannot be reached.
    """
    others = [whole_key(text) for text in given.texts(asked, "owners")]
    if len(set(others)) < len(others):
        raise BadInputError("an owner is named twice: each counts once")
    owners = tuple(sorted({context.key.public, *others}))
    threshold = given.count(asked, "threshold", 1)
    if len(owners) > OWNERS_MAX:
        raise BadInputError(f"a space has at most {OWNERS_MAX} owners")
    if threshold > len(owners):
        raise BadInputError(
            f"{threshold} owners must sign, and the space has {len(owners)}",
            hint="name the others with --owner KEY, as `crdtmerge whoami` prints theirs",
        )
    return _Rules(owners, threshold, given.flag(asked, "quarantine"))


def _owner_remarks(rules: _Rules) -> list[str]:
    if len(rules.owners) == 1:
        return [SOLE_OWNER]
    return [TWO_OWNERS] if len(rules.owners) == COUNCIL_LEAST else []


def _genesis(
    context: Context, name: str, mode: str, model: Model, rules: _Rules
) -> SignedRecord:
    try:
        return found_space(
            context.key,
            name=name,
            mode=mode,
            base=model.manifest.content_id,
            nonce=context.entropy(NONCE_BYTES),
            owners=rules.owners,
            threshold=rules.threshold,
            quarantine=rules.quarantine,
        )
    except MalformedRecordError as e:
        hint = f"use 1 to {NAME_CHARACTERS_MAX} printable characters"
        raise BadInputError(f"{name!r} cannot name a space: {e}", hint=hint) from e


def take_base(bringing: Bringing, model: Model) -> BaseFacts:
    """Reference the base's tensors where they lie, and keep its manifest."""
    return BaseFacts(model.path, bringing.keep(model))


def space_join(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Enter the space of a ticket, with the user's own copy of its base.

    In a space that this author takes part in already, only the place of the base is new.

    Raises:
        NotAllowedError: this author left the space.
        MalformedTicketError: the ticket was cut or mistyped.
        BaseMismatchError: the folder is not the base of the ticket's space.
        RemoteError: the inviting node did not answer, or refused.
    """
    ticket = decode_ticket(given.text(asked, "ticket"))
    member = _takes_part(context, ticket.space)
    if member and left(context.spaces.opset(ticket.space), context.key.public):
        hint = "another key may come in: `crdtmerge init` in another home makes one"
        raise NotAllowedError("this author left the space, for good", hint=hint)
    if not member:
        context.key.ready()
        context.home.node.ready()
    folder = given.path(asked, "base")
    with bringing_in(context, tell, reference=True, moved=True) as bringing:
        model, found = read_base(folder, bringing)
        model, found = of_space(model, found, ticket.base, ticket.name)
        facts = take_base(bringing, model)
        bringing.signing = True
        if not member:
            _enter(context, ticket)
        context.home.local.set_base(ticket.space, facts.folder, facts.manifest)
        keep_exponents(context.home.local, ticket.space, found)
    view = context.spaces.view(ticket.space)
    return {
        **identity_facts(view, ticket.space, context.key.public),
        "joined": not member,
        "records": len(context.spaces.opset(ticket.space)),
        "notes": [*model.notes, *([REBASED] if member else [])],
    }


def _takes_part(context: Context, space: SpaceId) -> bool:
    """Tell whether this author has rights: who imported the space has none by that."""
    if space not in context.spaces.all():
        return False
    return context.key.public in context.spaces.view(space).ranks


def _enter(context: Context, ticket: Ticket) -> None:
    from ..join import join

    context.run(join(ticket, context.home, context.spaces))
    if context.live is not None:
        announce_node(context, context.home.node.public, context.live.addresses)


def of_space(
    model: Model, facts: Mapping[str, TensorFacts], base: bytes, name: str
) -> tuple[Model, Mapping[str, TensorFacts]]:
    """Return a model as the base of a space, with the facts of its tensors.

    Raises:
        BaseMismatchError: the model is not the base of the space of this name; the
            message has all that the two digests let us know.
    """
    found = as_base(model, facts, base)
    if found is not None:
        return found
    ours = model.manifest
    raise BaseMismatchError(
        f"{model.path} ({len(ours.tensors)} tensors, {ours.size} bytes) has the"
        f" content id {ours.content_id.hex()[:SHORT]}, but the base of space"
        f" {name!r} is {base.hex()[:SHORT]}",
        hint="use the very files that the space was founded on: same revision, same dtype",
    )


def space_ticket(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Hand out a ticket that opens the door of a space.

    Raises:
        NotAllowedError: this author may not let others in.
        NotFoundError: no address is known yet, for no node ever ran here.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    view = context.spaces.view(space)
    replica(context, space).authority(Rank.MAINTAINER)  # joining needs a grant
    addresses = _join_addresses(context)
    secret = context.entropy(SECRET_BYTES)
    context.home.local.add_invite(space, secret)
    ticket = Ticket(
        space=space,
        base=view.base,
        secret=secret,
        node=context.home.node.public,
        addresses=addresses,
        name=view.rules.name,
    )
    return {
        "ticket": ticket.encode(),
        "space": space.hex(),
        "name": ticket.name,
        "addresses": list(addresses),
        "notes": [] if context.live else [NOT_RUNNING],
    }


def space_ticket_revoke(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Close the door that a ticket opens, or every door of a space; members stay.

    Raises:
        MalformedTicketError: the ticket was cut or mistyped.
        NotFoundError: this home hands out no such ticket, or does so no more.
    """
    text, local = given.text(asked, "ticket"), context.home.local
    if text.strip().lower() == ALL:
        space = choose_space(context.spaces, given.optional_text(asked, "space"))
        secrets = local.invites(space)
    else:
        ticket = decode_ticket(text)
        space, secrets = ticket.space, [ticket.secret]
    revoked = sum(local.revoke_invite(space, secret) for secret in secrets)
    if not revoked:
        message = "this home lets nobody in with that ticket"
        hint = "it was revoked already, or another node made it: revoke it there"
        raise NotFoundError(message, hint=hint)
    return {
        "space": space.hex(),
        "name": context.spaces.name(space),
        "revoked": revoked,
        "notes": [],
    }


def _join_addresses(context: Context) -> tuple[str, ...]:
    """Return where a joiner reaches us: now, or when a node last ran here."""
    if context.live is not None and context.live.join_addresses:
        return context.live.join_addresses
    known = context.home.local.get_value(JOIN_ADDRESSES)
    if not known:
        raise NotFoundError(
            "no address to put into a ticket: no node has run on this home",
            hint="start `crdtmerge node run`, then ask for the ticket",
        )
    return tuple(known.decode().split())
