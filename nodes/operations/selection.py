"""Finding what a user named: a space, a contribution, an author, by name or id prefix.

Owns prefixes and what is said when they fit nothing or too much. Does not own what is then
done with what was found.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from crdtmerge.bodies import Add, Ban, Grant, RecordId, SpaceId
from crdtmerge.digest import DIGEST_BYTES, ContentId
from crdtmerge.errors import BadInputError, NotFoundError
from crdtmerge.identity import KEY_BYTES, AuthorId, is_weak
from crdtmerge.orset import OpSet
from crdtmerge.policy import Visible

from ..spaces import Spaces

PREFIX_CHARACTERS_MIN: Final = 4
SHORT: Final = 12
"""Characters of an id that people are shown."""
MEMBERS_LISTED: Final = "`crdtmerge space members` lists them"
_LISTED_MAX: Final = 8

_HEX: Final = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Named:
    """Something in a space that an id names."""

    space: SpaceId
    kind: Literal["content", "add", "author", "record", "node", "model"]
    id: bytes


def choose_space(spaces: Spaces, given: str | None) -> SpaceId:
    """Return the space that `given` names by name or id prefix.

    Left out, it is the only space of the home.

    Raises:
        NotFoundError: there is no such space, or none at all.
        BadInputError: several fit; the hint lists them.
    """
    names = {space: spaces.name(space) for space in spaces.all()}
    if not names:
        raise NotFoundError(
            "this home takes part in no space",
            hint="`crdtmerge space create` founds one, `space join` enters one",
        )
    if given is None:
        fitting = list(names)
        message = f"this home takes part in {len(names)} spaces: say which with --space"
    else:
        fitting = [space for space, name in names.items() if name == given]
        if not fitting and _HEX.fullmatch(given):
            fitting = [space for space in names if space.hex().startswith(given)]
        message = f"{given!r} fits {len(fitting)} spaces"
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise BadInputError(message, hint=f"by id: {_listed(names, fitting)}")
    hint = f"there is: {_listed(names, names)}"
    raise NotFoundError(f"no space {given!r} in this home", hint=hint)


def _listed(names: Mapping[SpaceId, str], some: Iterable[SpaceId]) -> str:
    shown = [f"{names[space]} ({space.hex()[:SHORT]})" for space in some]
    more = [f"and {len(shown) - _LISTED_MAX} more"] if len(shown) > _LISTED_MAX else []
    return ", ".join([*shown[:_LISTED_MAX], *more])


def find_removable(spaces: Spaces, given: str, space: str | None) -> Named:
    """Return the live contribution, or the one live add of it, that `given` names."""
    places = _places(spaces, space)
    found = {
        named
        for place in places
        for visible in spaces.view(place).visible
        for named in (
            Named(place, "content", visible.content),
            *(Named(place, "add", add) for add in visible.adds),
        )
    }
    return _only(found, given, "contribution in the merge")


def find_bannable(spaces: Spaces, given: str, space: str | None) -> Named:
    """Return the content (visible or not) or the author that `given` names."""
    found: set[Named] = set()
    for place in _places(spaces, space):
        opset = spaces.opset(place)
        found |= {Named(place, "author", author) for author in authors_of(opset)}
        for record in opset.records.values():
            if isinstance(record.body, Add):
                found.add(Named(place, "content", record.body.content))
    return _only(found, given, "contribution or author")


def find_banned(spaces: Spaces, given: str, space: str | None) -> Named:
    """Return the banned content or author, or the one ban of it, that `given` names."""
    found: set[Named] = set()
    for place in _places(spaces, space):
        for key, ban in spaces.view(place).bans.items():
            kind: Literal["content", "author"] = (
                "author" if ban.subject == "author" else "content"
            )
            found |= {Named(place, kind, ban.target), Named(place, "record", key)}
    return _only(found, given, "contribution, author or record of a ban that stands")


def find_contribution(spaces: Spaces, given: str, space: str | None) -> Named:
    """Return the visible contribution that `given` names."""
    found = {
        Named(place, "content", visible.content)
        for place in _places(spaces, space)
        for visible in spaces.view(place).visible
    }
    return _only(found, given, "contribution in the merge")


def scorable(
    spaces: Spaces, space: str | None, models: Callable[[SpaceId], Iterable[bytes]]
) -> frozenset[Named]:
    """Return what can be scored: visible contributions, and the models of a space."""
    found: set[Named] = set()
    for place in _places(spaces, space):
        visible = spaces.view(place).visible
        found |= {Named(place, "content", v.content) for v in visible}
        found |= {Named(place, "model", model) for model in models(place)}
    return frozenset(found)


def find_scored(found: Iterable[Named], given: str) -> Named | None:
    """Return what `given` names; None if it is `model:` and a merge id that is not known.

    Raises:
        BadInputError: it is no id, is too short, or fits several.
        NotFoundError: it fits nothing.
    """
    kind, colon, prefix = given.partition(":")
    if not colon:
        listed = (
            "`crdtmerge status` lists contributions and the merge id; of another model"
            " give model: and its whole merge id, from resolution.json"
        )
        return _only(found, given, "contribution in the merge or known model", listed)
    if kind not in {"content", "model"}:
        hint = "write content: or model: before an id, or an id alone"
        raise BadInputError(f"{given!r} is no subject", hint=hint)
    named = {one for one in found if one.kind == kind}
    whole = len(prefix) == 2 * DIGEST_BYTES and _HEX.fullmatch(prefix)
    known = any(one.id.hex() == prefix for one in named)
    if kind == "model" and whole and not known:
        return None
    what = "contribution in the merge" if kind == "content" else "known model"
    return _only(named, prefix, what)


def find_checkable(spaces: Spaces, given: str, space: str | None) -> Named:
    """Return the contribution that `given` names: visible, or shown to be faulty."""
    found = {
        Named(place, "content", content)
        for place in _places(spaces, space)
        for view in [spaces.view(place)]
        for content in (*(v.content for v in view.visible), *view.faults)
    }
    return _only(found, given, "contribution in the merge")


def find_offered(spaces: Spaces, given: str, space: str | None) -> Named:
    """Return the contribution that `given` names, visible or not."""
    found = {
        Named(place, "content", record.body.content)
        for place in _places(spaces, space)
        for record in spaces.opset(place).records.values()
        if isinstance(record.body, Add)
    }
    return _only(found, given, "contribution")


def authors_of(opset: OpSet) -> set[AuthorId]:
    """Return every author that a record of the space names or is signed by."""
    records = opset.records.values()
    named = {
        AuthorId(body.author if isinstance(body, Grant) else body.target)
        for body in (record.body for record in records)
        if isinstance(body, Grant)
        or (isinstance(body, Ban) and body.subject == "author")
    }
    return {r.author for r in records} | named | set(opset.view.ranks)


def find_author(opset: OpSet, given: str) -> AuthorId:
    """Return the author of the space whose key starts with `given`."""
    found = {Named(opset.space, "author", author) for author in authors_of(opset)}
    return AuthorId(_only(found, given, "author of the space", MEMBERS_LISTED).id)


def whole_key(given: str) -> AuthorId:
    """Return the author key that `given` is, in full.

    Raises:
        BadInputError: it is none, or one that anybody could use.
    """
    text = given.strip().lower()
    if len(text) != 2 * KEY_BYTES or not _HEX.fullmatch(text):
        message = f"{given!r} is no author's key"
        hint = (
            f"keys have {2 * KEY_BYTES} characters; `crdtmerge whoami` prints one's own"
        )
        raise BadInputError(message, hint=hint)
    key = AuthorId(bytes.fromhex(text))
    if is_weak(key):
        raise BadInputError(f"anybody could sign with the key {text[:SHORT]}")
    return key


def find_grantee(opset: OpSet, given: str) -> AuthorId:
    """Return the author that `given` names: a whole key may be new to the space."""
    text = given.strip().lower()
    if len(text) == 2 * KEY_BYTES and _HEX.fullmatch(text):
        return AuthorId(bytes.fromhex(text))
    hint = f"of who is new here give the whole key of {2 * KEY_BYTES} characters"
    found = {Named(opset.space, "author", author) for author in authors_of(opset)}
    return AuthorId(_only(found, given, "author of the space", hint).id)


def find_record(opset: OpSet, given: str) -> RecordId:
    """Return the record whose id starts with `given`."""
    found = {Named(opset.space, "record", key) for key in opset.records}
    listed = "`crdtmerge space pending` lists those that wait for owners"
    return RecordId(_only(found, given, "record", listed).id)


def find_record_of(opset: OpSet, author: AuthorId, given: str) -> RecordId:
    """Return the record of `author`, by any of its keys, whose id starts with `given`."""
    keys = opset.view.identity(author)
    found = {
        Named(opset.space, "record", record.id)
        for record in opset.records.values()
        if record.author in keys
    }
    what = f"record of author {author.hex()[:SHORT]}"
    return RecordId(_only(found, given, what, "`crdtmerge log` lists them").id)


def find_node(spaces: Spaces, given: str) -> bytes:
    """Return the transport key of a member that starts with `given`."""
    nowhere = SpaceId(b"")
    found = {Named(nowhere, "node", node) for node in spaces.members()}
    hint = "`crdtmerge peers list` has the nodes of members"
    return _only(found, given, "node of a member", hint).id


def find_visible(visible: Iterable[Visible], given: str) -> ContentId:
    """Return the visible content id that starts with `given`."""
    found = {Named(SpaceId(b""), "content", item.content) for item in visible}
    return ContentId(_only(found, given, "contribution in the merge").id)


def _places(spaces: Spaces, space: str | None) -> list[SpaceId]:
    """Return where to look: an id is enough to tell the spaces of a home apart."""
    if space is None and spaces.all():
        return spaces.all()
    return [choose_space(spaces, space)]


def _only(
    found: Iterable[Named],
    given: str,
    what: str,
    listed: str = "`crdtmerge status` lists what there is",
) -> Named:
    """Return the one of `found` whose id starts with `given`; `listed` says where to look.

    Raises:
        BadInputError: `given` is no id, is too short, or fits several.
        NotFoundError: it fits none.
    """
    prefix = given.strip().lower()
    if not _HEX.fullmatch(prefix) or len(prefix) > 2 * DIGEST_BYTES:
        raise BadInputError(
            f"{given!r} is not an id", hint="ids are hexadecimal; status shows them"
        )
    if len(prefix) < PREFIX_CHARACTERS_MIN:
        raise BadInputError(
            f"{given!r} is too short",
            hint=f"give at least {PREFIX_CHARACTERS_MIN} characters of the id",
        )
    fitting = sorted(
        (named for named in found if named.id.hex().startswith(prefix)),
        key=lambda named: (named.id, named.space),
    )
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise NotFoundError(
            f"no {what} has an id that starts with {given!r}",
            hint=listed,
        )
    if len({named.space for named in fitting}) == len(fitting):
        spaces = ", ".join(named.space.hex()[:SHORT] for named in fitting)
        raise BadInputError(
            f"{given!r} is in several spaces", hint=f"say which with --space: {spaces}"
        )
    ids = ", ".join(sorted({named.id.hex()[:20] for named in fitting})[:_LISTED_MAX])
    raise BadInputError(f"{given!r} fits several ids", hint=f"say more of it: {ids}")


def add_of(named: Named) -> RecordId:
    """Return the add id that was named."""
    return RecordId(named.id)
