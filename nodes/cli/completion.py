"""Completion of values in a shell: spaces, strategies, ids, peers.

Owns what is offered while a word is typed. Does not own completion scripts: typer's
`--install-completion` writes those. Whatever goes wrong here offers nothing: a shell must
never show a traceback for a tab.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from .settings import Settings

if TYPE_CHECKING:
    from ..spaces import Spaces

Complete = Callable[[typer.Context, str], list[str]]
SHOWN: Final = 12


def _quiet(find: Complete) -> Complete:
    """Return `find`, offering what fits, and nothing if it fails."""

    @functools.wraps(find)
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        with suppress(Exception):
            return sorted(
                {w for w in find(ctx, incomplete) if w.startswith(incomplete)}
            )
        return []

    return complete


@_quiet
def spaces(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
    """Offer the names of spaces."""
    with _opened(ctx) as found:
        return [found.name(space) for space in found.all()]


@_quiet
def strategies(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
    """Offer the names of strategies, without their version."""
    from crdtmerge.strategies import STRATEGIES, plugins

    return [name.partition("/")[0] for name in (*STRATEGIES, *plugins.installed())]


@_quiet
def steps(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
    """Offer the names of steps, without their version."""
    from crdtmerge.strategies.steps import STEPS

    return [name.partition("/")[0] for name in STEPS]


@_quiet
def shard_sizes(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
    """Offer usual sizes of a file of weights."""
    return ["1GB", "2GB", "5GB", "10GB", "50GB"]


@_quiet
def dtypes(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
    """Offer the dtypes that a merged model may have."""
    from crdtmerge.recipe import OUTPUT_DTYPES

    return [dtype for dtype in OUTPUT_DTYPES if dtype]


@_quiet
def missing(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
    """Offer what may be done about tensors that a model lacks."""
    from crdtmerge.recipe import MISSING_CHOICES

    return list(MISSING_CHOICES)


@_quiet
def tags(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
    """Offer the tags of visible contributions."""
    with _opened(ctx) as found:
        return _tags(found)


@_quiet
def selectors(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001
    """Offer what selects visible contributions: by tag, author and content."""
    with _opened(ctx) as found:
        views = [found.view(space) for space in found.all()]
        words = [f"tag:{tag}=" for tag in _tags(found)]
    visible = [v for view in views for v in view.visible]
    words += [f"content:{v.content.hex()[:SHOWN]}=" for v in visible]
    return words + [f"author:{a.hex()[:SHOWN]}=" for v in visible for a in v.authors]


def _tags(found: "Spaces") -> list[str]:
    return [t for s in found.all() for v in found.view(s).visible for t in v.tags]


@_quiet
def contributions(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the ids of visible contributions."""
    with _opened(ctx) as found:
        ids = [v.content.hex() for s in found.all() for v in found.view(s).visible]
    return _shortened(ids, incomplete)


@_quiet
def authors(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the keys of authors."""
    with _opened(ctx) as found:
        ids = [author.hex() for s in found.all() for author in found.view(s).ranks]
    return _shortened(ids, incomplete)


@_quiet
def bannable(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer contributions, authors, and what is banned."""
    with _opened(ctx) as found:
        views = [found.view(space) for space in found.all()]
    ids = [a.hex() for view in views for a in view.ranks]
    ids += [v.content.hex() for view in views for v in view.visible]
    ids += [ban.target.hex() for view in views for ban in view.bans.values()]
    return _shortened(ids, incomplete)


@_quiet
def nodes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the keys of members' nodes."""
    with _opened(ctx) as found:
        return _shortened([node.hex() for node in found.members()], incomplete)


def _shortened(ids: list[str], incomplete: str) -> list[str]:
    """Return ids as people are shown them, or whole once more than that is typed."""
    return [i if len(incomplete) >= SHOWN else i[:SHOWN] for i in ids]


@contextmanager
def _opened(ctx: typer.Context) -> Iterator["Spaces"]:
    """Lend the spaces of the home that the line names, read only."""
    from ..home import open_home
    from ..spaces import Spaces

    with open_home(_home(ctx), write=False) as home:
        yield Spaces(home.records, home.blobs)


def _home(ctx: typer.Context) -> Path:
    """Return the home of a line that is still being typed: the innermost `--home`."""
    place: Any = ctx  # typer's contexts are of its own class, their parents of click's
    while place is not None:
        if given := place.params.get("home"):
            return Settings(Path(given), as_json=False).home
        place = place.parent
    return Settings(None, as_json=False).home
