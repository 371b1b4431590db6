"""One story, played in the real world and in the simulated one.

Owns choosing the real world that this machine allows, and what is told of both. Does not
own options or printing (`command`).
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import isolation
from .older import kept, unpack
from .places import Means, Places, ProxiedPlaces, WiredPlaces
from .scene import Scene
from .stories import STORIES, Story
from .twin import Twin

NAMES: Final = ("ann", "ben", "cem", "dan", "eve", "fay", "gus", "hal")


class Skipped(Exception):  # noqa: N818  nothing went wrong
    """This machine cannot play a story; the message says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which story, with whom, how often its trouble comes, and how it is made."""

    story: str
    names: tuple[str, ...]
    times: int = 0
    """0 is what the story says."""
    seed: int = 0
    storm: Means | None = None
    older: Path | None = None


def play(asked: Asked, folder: Path) -> dict[str, Any]:
    """Play a story in both worlds; return what it came to.

    Raises:
        Skipped: this machine cannot.
        NotConvergedError: a promise does not hold.
    """
    story = STORIES[asked.story]
    if "namespaces" in story.needs and not isolation.inside():
        why = isolation.refusal() or "asked for loopback"
        raise Skipped(f"needs network namespaces or mounts of its own: {why}")
    places = _places(asked, story)
    scene = Scene(folder, asked.names, places, asked.seed)
    with ExitStack() as stack:
        stack.callback(scene.end)
        if story.own_disk:
            places.own_disk(folder / asked.names[-1])
        if "older" in story.needs:
            scene.programs = dict.fromkeys(asked.names, _older(asked, folder))
        scene.set_up()
        story.tell(scene, asked.times or story.times)
        real = scene.settle()
    return {
        "story": asked.story,
        "nodes": len(asked.names),
        "seed": asked.seed,
        "where": places.words,
        "storm_by": places.means,
        "storm": places.storm_words if places.means else None,
        "done": dict(scene.done),
        "real": real.facts(),
        "simulated": _simulated(asked, story),
    }


def _simulated(asked: Asked, story: Story) -> dict[str, Any]:
    twin = twin_of(story, asked.names, asked.seed)
    story.tell(twin, asked.times or story.times)
    return twin.settle().facts()


def twin_of(story: Story, names: tuple[str, ...], seed: int) -> Twin:
    """Return the simulated world that a story is told in."""
    return Twin(names, seed, disks=story.own_disk, older="older" in story.needs)


def _places(asked: Asked, story: Story) -> Places:
    if not story.stormy:
        return WiredPlaces(asked.names) if isolation.inside() else Places()
    means = asked.storm or _best()
    if means == "proxy":
        return ProxiedPlaces(asked.names, asked.seed)
    try:
        return WiredPlaces(asked.names, means)
    except (NotImplementedError, OSError) as e:
        raise Skipped(f"no storm by {means}: {e}") from e


def _best() -> Means:
    if not isolation.inside():
        return "proxy"
    if isolation.has_netem():
        return "netem"
    return "switch" if isolation.has_tap() else "proxy"


def _older(asked: Asked, folder: Path) -> Path:
    found = asked.older or kept()
    if found is None:
        raise Skipped("no older build is kept here; --older names one")
    return unpack(found, folder / "older")
