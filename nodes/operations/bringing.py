"""The verb `fetch`: the missing bytes of visible contributions, here, now.

Owns what is waited for, and when that is given up: after a time in which nothing came,
never after a time in all. Does not own fetching, which the node does anyhow
(`nodes.node`, `nodes.fetching`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import ContentMissingError
from crdtmerge.policy import Visible

from ..store.references import REMEDY
from ..upkeep.references import check_references
from . import arguments as given
from .converging import Reports, live_of
from .live import Answer, Arguments, Context, Live, Tell
from .peers import others, unreached
from .selection import SHORT, choose_space, find_contribution

PATIENCE_S: Final = 60.0
"""How long nothing may come: longer than a node waits before it dials a peer again."""
POLL_S: Final = 0.2
LISTED_MAX: Final = 8
Contents = frozenset[tuple[SpaceId, ContentId]]

BEYOND: Final = "not fetched, for it is beyond the bytes of its author (`node quotas`)"
WAITING: Final = "records wait for the quota of their author, and may offer more"
NOT_COMPARED: Final = (
    "no peer could be asked what there is: there may be contributions unknown here"
)


@dataclass(slots=True)
class _Errand:
    """What is to be brought; `contents` is None for all that is visible."""

    context: Context
    live: Live
    spaces: list[SpaceId]
    contents: Contents | None
    began: Mapping[SpaceId, Reports] = field(init=False)
    known: Contents = field(init=False)
    """What was shown to be faulty before."""

    def __post_init__(self) -> None:
        self.began = {space: self.live.reports(space) for space in self.spaces}
        self.known = self.faulty()

    def faulty(self) -> Contents:
        """Return what is shown to be faulty now."""
        view = self.context.spaces.view
        return frozenset(
            (s, content) for s in self.spaces for content in view(s).faults
        )

    def wanted(self) -> list[tuple[SpaceId, Visible]]:
        """Return the contributions that matter; one that is removed matters no more.

        Where none is named, those that are beyond their author's bytes do not.
        """
        beyond = self.context.spaces.beyond() if self.contents is None else ()
        return [
            (space, visible)
            for space in self.spaces
            for visible in self.context.spaces.view(space).visible
            if self.contents is None or (space, visible.content) in self.contents
            if (space, visible.content) not in beyond
        ]

    def left_out(self) -> list[str]:
        """Return a note about what was not asked for by name and is beyond a quota."""
        beyond = self.context.spaces.beyond() if self.contents is None else ()
        left = [
            content.hex()[:SHORT]
            for space, content in sorted(beyond)
            if space in self.spaces
        ]
        if not left:
            return []
        named = ", ".join(left[:LISTED_MAX])
        more = f" and {len(left) - LISTED_MAX} more" if len(left) > LISTED_MAX else ""
        return [f"{BEYOND}: {named}{more}; `crdtmerge fetch ID` brings one"]

    def lacking(self) -> dict[ContentId, Mapping[BlobId, int]]:
        """Return what each contribution still lacks, those that lack nothing left out."""
        found = {
            visible.content: self.context.spaces.lacking(space, visible)
            for space, visible in self.wanted()
        }
        return {content: blobs for content, blobs in found.items() if blobs}

    def compared(self) -> bool:
        """Tell whether a peer of each space has said that we know all it knows.

        Or might know it: what waits for a quota of ours may be all that we differ in.
        Where contributions are named, or nobody else takes part, that does not matter.
        """
        return self.contents is not None or all(map(self._compared, self.spaces))

    def _compared(self, space: SpaceId) -> bool:
        if not others(self.context, space):
            return True
        root, began = self.context.spaces.opset(space).root, self.began[space]
        roots = [
            report.root
            for peer, report in self.live.reports(space).items()
            if report is not None and report is not began.get(peer)
        ]
        return root in roots or bool(roots and self.live.waiting(space))

    def waiting(self) -> list[str]:
        """Return a note if records wait that may offer something."""
        count = sum(h.records for s in self.spaces for h in self.live.waiting(s))
        return [f"{count} {WAITING}"] if count and self.contents is None else []


@dataclass(slots=True)
class Patience:
    """When something last came: bytes, records, or a peer not seen before."""

    live: Live
    seconds: float
    last: float = field(init=False)
    seen: set[bytes] = field(default_factory=set)
    mark: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.last = self.live.now()

    def over(self, records: int) -> bool:
        """Tell whether nothing came for too long."""
        self.seen |= set(self.live.connected())
        mark = (self.live.brought(), records, len(self.seen))
        if mark != self.mark:
            self.mark, self.last = mark, self.live.now()
        return self.live.now() - self.last >= self.seconds


def fetch(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Return once the contributions that are visible, or named, are here whole.

    Raises:
        ContentMissingError: nothing came for too long; the message says what is missing,
            and who could not be reached.
        NoRoomError: the disk has no room for it.
        NodeNeededError: no node runs here.
    """
    spaces, contents = _wanted(context, asked)
    seconds = given.seconds(asked, "patience") or PATIENCE_S
    live = live_of(context)
    check_references(context.home, context.spaces)
    errand, patience = (
        _Errand(context, live, spaces, contents),
        Patience(live, seconds),
    )
    first = live.brought()
    with live.needing() as need:
        compared = _brought(context, errand, patience, need, tell)
    return {
        "spaces": [space.hex() for space in errand.spaces],
        "contributions": [visible.content.hex() for _, visible in errand.wanted()],
        "fetched_bytes": live.brought() - first,
        "compared": compared,
        "notes": [
            *_faults(context, errand),
            *errand.left_out(),
            *errand.waiting(),
            *([] if compared else [NOT_COMPARED]),
        ],
    }


def _brought(
    context: Context,
    errand: _Errand,
    patience: Patience,
    need: Callable[[Iterable[BlobId]], None],
    tell: Tell,
) -> bool:
    """Wait until nothing is lacking; tell whether a peer said that we know all it knows.

    Raises:
        ContentMissingError: nothing came for too long.
    """
    while True:
        lacking, compared = errand.lacking(), errand.compared()
        if not lacking and compared:
            return True
        need(blob for blobs in lacking.values() for blob in blobs)
        records = sum(len(context.spaces.opset(space)) for space in errand.spaces)
        if patience.over(records):
            if lacking:
                _require_room(context, lacking)
                raise _missing(context, errand, lacking, patience.seconds)
            return compared
        tell(_progress(context, errand, lacking))
        errand.live.pause(POLL_S)


def _faults(context: Context, errand: _Errand) -> list[str]:
    """Return a note for each contribution that will never be whole."""
    shown = [
        f"contribution {content.hex()[:SHORT]} is faulty, and out of the merge"
        for _, content in sorted(errand.faulty() - errand.known)
    ]
    return shown + [
        f"contribution {visible.content.hex()[:SHORT]} has a manifest that was not signed"
        for space, visible in errand.wanted()
        if not context.spaces.progress(space)[visible.content]
    ]


def _wanted(
    context: Context, asked: Arguments
) -> tuple[list[SpaceId], Contents | None]:
    """Return the spaces, and the contributions that were named; None means all."""
    space, ids = given.optional_text(asked, "space"), given.texts(asked, "ids")
    if ids:
        named = [find_contribution(context.spaces, text, space) for text in ids]
        contents = frozenset((n.space, ContentId(n.id)) for n in named)
        return sorted({n.space for n in named}), contents
    chosen = context.spaces.all()
    if space is not None or not chosen:
        chosen = [choose_space(context.spaces, space)]
    return chosen, None


def _progress(
    context: Context, errand: _Errand, lacking: Mapping[ContentId, Mapping[BlobId, int]]
) -> Mapping[str, object]:
    """Return how many bytes are here, of what is known to be needed."""
    sizes = {b: s for blobs in lacking.values() for b, s in blobs.items()}
    arriving = errand.live.arriving()
    coming = sum(min(arriving.get(blob, 0), size) for blob, size in sizes.items())
    total = sum(context.spaces.size(visible) for _, visible in errand.wanted())
    left = sum(sizes.values()) - coming
    work = "fetching" if lacking else "comparing"
    done = max(0, total - left)
    return {"work": work, "done": done, "total": total, "unit": "bytes"}


def _require_room(
    context: Context, lacking: Mapping[ContentId, Mapping[BlobId, int]]
) -> None:
    """Say that the disk is full, if that is why nothing came."""
    for blobs in lacking.values():
        for blob, size in blobs.items():
            context.home.blobs.require_room(blob, size)


def _missing(
    context: Context,
    errand: _Errand,
    lacking: Mapping[ContentId, Mapping[BlobId, int]],
    seconds: float,
) -> ContentMissingError:
    words = [
        f"{content.hex()[:SHORT]} ({len(blobs)} blobs, {sum(blobs.values())} bytes)"
        for content, blobs in sorted(lacking.items())
    ]
    more = [f"and {len(words) - LISTED_MAX} more"] if len(words) > LISTED_MAX else []
    listed = ", ".join([*words[:LISTED_MAX], *more])
    connected = [peer.hex()[:SHORT] for peer in errand.live.connected()]
    here = f"connected: {', '.join(connected[:LISTED_MAX])}" if connected else ""
    away = unreached(context, errand.spaces)
    gone = f"not reached: {away}" if away else ""
    reasons = "; ".join(text for text in (here, gone) if text) or "nobody else is known"
    hint = "`crdtmerge peers add` names an address; what came is kept, so ask again"
    if file := _changed_file(context, lacking):
        reasons, hint = f"{file} is not as it was referenced; {reasons}", REMEDY
    return ContentMissingError(
        f"nothing came for {seconds:g} s, and these are not whole: {listed}; {reasons}",
        hint=hint,
    )


def _changed_file(
    context: Context, lacking: Mapping[ContentId, Mapping[BlobId, int]]
) -> Path | None:
    """Return a file of the user's that something of this was in, until it changed."""
    stray = context.home.blobs.references.stray
    found = (stray(blob) for _, blobs in sorted(lacking.items()) for blob in blobs)
    return next((path for path in found if path is not None), None)
