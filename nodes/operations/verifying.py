"""The verb `verify`: is a merged model what its resolution says?

Owns how far one can tell here: the digests always, the model itself where the home has
the contributions. Does not own the comparison of digests (`crdtmerge.resolve.verify`), nor
the computation (`recomputing`).
"""

from pathlib import Path

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    NotFoundError,
    UpgradeNeededError,
    VerificationError,
)
from crdtmerge.resolve.resolution import Resolution, make_resolution
from crdtmerge.resolve.verify import verify_folder

from . import arguments as given
from .contents import base_exponents
from .live import Answer, Arguments, Context, Tell, telling
from .making import threads_of
from .recomputing import Again, check_merge_id, named_by, scores_named
from .selection import SHORT

NO_HOME = "there is no home here, so the digests alone were checked"
NOT_A_MEMBER = "this home does not take part in the space"
NO_SPACE = "it was merged from a configuration, so the digests alone were checked"


def verify(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Recompute the digests of a merged model; with its contributions here, the model.

    Raises:
        NotFoundError: the folder has no resolution.
        VerificationError: the model is not what its resolution says.
    """
    folder = given.path(asked, "dir")
    resolution = verify_folder(folder, telling(tell))
    space = SpaceId(resolution.space)
    if space not in context.spaces.all():
        return _answer(folder, resolution, NOT_A_MEMBER if space else NO_SPACE)
    try:
        _recompute(context, space, resolution, asked, tell)
    except (
        ContentMissingError,
        CorruptBlobError,
        NotFoundError,
        UpgradeNeededError,
    ) as e:
        return _answer(folder, resolution, str(e))
    view = context.spaces.view(space)
    now = view.recipe is not None and view.merge_id(view.recipe) == resolution.merge_id
    return {**_answer(folder, resolution, ""), "recomputed": True, "current": now}


def verify_alone(asked: Arguments, tell: Tell) -> Answer:
    """Recompute the digests of a merged model where there is no home.

    Raises:
        NotFoundError: the folder has no resolution.
        VerificationError: the model is not what its resolution says.
    """
    folder = given.path(asked, "dir")
    resolution = verify_folder(folder, telling(tell))
    return _answer(folder, resolution, NO_HOME if resolution.space else NO_SPACE)


def _answer(folder: Path, resolution: Resolution, reason: str) -> Answer:
    """Return what was found; `reason` says why the model was not recomputed."""
    check_merge_id(resolution)
    return {
        "dir": str(folder),
        "space": resolution.space.hex(),
        "model_digest": resolution.model_digest.hex(),
        "merge_id": resolution.merge_id.hex(),
        "tensors": len(resolution.tensors),
        "digests": True,
        "recomputed": False,
        "reason": reason,
        "current": None,
    }


def _recompute(
    context: Context,
    space: SpaceId,
    resolution: Resolution,
    asked: Arguments,
    tell: Tell,
) -> None:
    """Compute the model again and compare it.

    The contributions are those that the resolution names, visible today or not.

    Raises:
        VerificationError: other bytes, other seeds, or authors who never offered it.
        ContentMissingError: bytes of a contribution are not here.
        NotFoundError: a contribution, or the base, is not known here.
        UpgradeNeededError: this version cannot compute what was computed.
    """
    base, sources = named_by(context, space, resolution)
    check_merge_id(resolution)  # before what fewer evaluations would be refused for
    again = Again(context.home, threads_of(asked), telling(tell))
    exponents = base_exponents(context, space) if resolution.adapter else {}
    plan, tensors, adapted = again.compute(
        resolution, base, sources, exponents, scores_named(context, space, resolution)
    )
    found = make_resolution(
        plan,
        tensors,
        space=space,
        merge_id=resolution.merge_id,
        visible_root=resolution.visible_root,
        adapter=adapted,
        evaluations=resolution.evaluations,
    )
    _compare(resolution, found)


def _compare(stated: Resolution, again: Resolution) -> None:
    for source, other in zip(stated.contributions, again.contributions, strict=True):
        if source.unread != other.unread:
            short = source.content.hex()[:SHORT]
            message = f"of contribution {short} its budget leaves other tensors unread"
            raise VerificationError(message)
    for ours, theirs in zip(stated.tensors, again.tensors, strict=False):
        if ours != theirs:
            message = f"computed again, tensor {ours.name!r} has other bytes"
            hint = "this is not the model that these contributions and this recipe make"
            raise VerificationError(message, hint=hint)
    if stated.model_digest != again.model_digest:
        raise VerificationError("computed again, the model has other tensors")
    if stated.adapter != again.adapter:
        raise VerificationError("computed again, the adapter has another config")
    if stated.seeds != again.seeds:
        raise VerificationError("computed again, the seeds are others")
