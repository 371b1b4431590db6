"""Who stands out by distance or direction, as a whole or in a layer.

Owns the thresholds of both. Does not own statistics (`standing`). What they were chosen
by is told in docs/inspect.md: honest fine-tunes stay clear of each.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from crdtmerge.scrutiny.findings import Finding, Severity, named
from crdtmerge.scrutiny.standing import Standing

FAR_RATIO: Final = 3.0
FAR_SCORE: Final = 5.0
"""Far is this multiple of the others' median, and so many spreads away from it."""

FAR_WARNING: Final = 6.0
"""From this multiple on an average is mostly this one contribution."""

LAYER_RATIO: Final = 5.0
"""The same for one layer of a model that is not far as a whole."""

AGREED: Final = 0.1
LAYER_AGREED: Final = 0.2
"""The others agree if the median of their cosines is at least this; in one layer, this."""

FLIPPED: Final = -0.4
"""One's median cosine with them, as a share of theirs, from which on it points against.
"""

APART: Final = 0.2
"""The same share, of either sign, up to which it has nothing in common with them."""


def distance(whole: Standing, layers: Mapping[str, Standing]) -> Iterator[Finding]:
    """Yield that a contribution is far off, as a whole or else in some layers."""
    if whole.ratio is not None and _is_far(whole, FAR_RATIO):
        severity: Severity = "warning" if whole.ratio >= FAR_WARNING else "notice"
        yield Finding("far", severity, _distances(whole))
        return
    far = {name: s for name, s in layers.items() if _is_far(s, LAYER_RATIO)}
    if far:
        most = max(far.values(), key=lambda s: s.ratio or 0.0)
        yield Finding("far", "notice", _distances(most), named(far))


def _is_far(standing: Standing, ratio: float) -> bool:
    if standing.ratio is None or standing.ratio < ratio:
        return False
    return standing.score is None or standing.score >= FAR_SCORE


def _distances(standing: Standing) -> dict[str, float]:
    assert standing.ratio is not None, "who is far has others to be far from"
    found = {"relative": standing.relative, "ratio": standing.ratio}
    return found | ({} if standing.score is None else {"score": standing.score})


def direction(whole: Standing, layers: Mapping[str, Standing]) -> Iterator[Finding]:
    """Yield that a contribution points elsewhere than the others, who agree."""
    share = share_of(whole, AGREED)
    if share is not None and share <= FLIPPED:
        yield Finding("flipped", "warning", _directions(whole))
        return
    if share is not None and abs(share) <= APART:
        yield Finding("apart", "notice", _directions(whole))
        return
    shares = {
        name: share_of(standing, LAYER_AGREED) for name, standing in layers.items()
    }
    against = {n: s for n, s in shares.items() if s is not None and s <= FLIPPED}
    if against:
        most = min(against, key=lambda name: against[name])
        figures = _directions(layers[most])
        yield Finding("flipped", "notice", figures, named(against))


def share_of(standing: Standing, agreed: float) -> float | None:
    """Return the agreement as a share of the others'; None where these do not agree."""
    if standing.agreement is None or standing.typical is None:
        return None
    if standing.typical < agreed:
        return None
    return standing.agreement / standing.typical


def _directions(standing: Standing) -> dict[str, float]:
    assert standing.agreement is not None, "it has a share"
    assert standing.typical is not None, "it has a share"
    return {"agreement": standing.agreement, "typical": standing.typical}
