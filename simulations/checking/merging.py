"""The merge of one machine: what its user would get from `crdtmerge resolve` now.

Owns gathering its contributions, in the order in which they arrived there, and keeping the
output. Does not own the computation (`crdtmerge.resolve`), nor comparing (`checkers`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import ContentId
from crdtmerge.errors import NothingToResolveError
from crdtmerge.manifest import Manifest
from crdtmerge.numerics import Data
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.plan import make_plan
from crdtmerge.resolve.resolution import make_resolution, model_tensors
from nodes.spaces import Spaces


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged model: its tensors' bytes, its digest, and the text that explains it."""

    model_digest: bytes
    resolution: str
    tensors: Mapping[str, bytes]


@dataclass(slots=True)
class _Sink:
    tensors: dict[str, bytes] = field(default_factory=dict)

    def write(self, name: str, data: Data, offset: int = 0) -> None:
        self.tensors[name] = self.tensors.get(name, b"")[:offset] + bytes(data)


def merge(spaces: Spaces, space: SpaceId, base: Manifest) -> Merged | None:
    """Resolve `space` from the records and blobs of one machine; None if it is empty.

    SUBTLE: the contributions come in the order of arrival, which differs from machine to
    machine: what makes of it one order is part of what is tested.
    """
    view = spaces.view(space)
    assert view.recipe is not None
    arrived = arrivals(spaces, space)
    found = spaces.contributions(sorted(view.visible, key=lambda v: arrived[v.content]))
    read = view.read_by(view.recipe)
    try:
        scores = [one.score for one in read]
        plan = make_plan(view.recipe, base, found, scores=scores)
    except NothingToResolveError:
        return None
    sink = _Sink()
    digests = execute(plan, spaces.blobs, sink)
    resolution = make_resolution(
        plan,
        model_tensors(plan, digests),
        space=space,
        merge_id=view.merge_id(view.recipe),
        visible_root=view.visible_root,
        evaluations=tuple(one.record for one in read),
    )
    return Merged(resolution.model_digest, resolution.to_json(), sink.tensors)


def arrivals(spaces: Spaces, space: SpaceId) -> dict[ContentId, int]:
    """Return when the first add of each visible contribution was stored."""
    numbers = dict(zip((s.record.id for s in spaces.records.load(space)), count()))
    return {
        visible.content: min(numbers[add] for add in visible.adds)
        for visible in spaces.view(space).visible
    }
