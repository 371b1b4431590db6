"""One start on a large home: when it answers peers, and what a first look at it costs.

    python -m benchmarks.scale.starting HOME

Owns the order of what a node does first. It is a process of its own: memory counts too.
"""

import json
import sys
from pathlib import Path

from crdtmerge.sync.reconcile import answer
from nodes.home import open_home
from nodes.spaces import Spaces

from .watch import Watch

SECOND_LEVEL = [(high, low) for high in range(16) for low in range(16)]


def main(path: Path) -> None:
    """Measure, and print JSON."""
    watch = Watch()
    with open_home(path, write=True) as home:
        spaces = Spaces(home.records, home.blobs)
        (space,) = spaces.all()
        watch.after("root", lambda: spaces.opset(space).root)
        watch.after("heartbeat", lambda: spaces.heartbeat(space))
        watch.after("trie request", lambda: list(answer(spaces.trie(space), ((),))))
        asked = tuple(SECOND_LEVEL)
        watch.after("256 nodes", lambda: list(answer(spaces.trie(space), asked)))
        middle = len(spaces.opset(space)) // 2
        watch.after("feed", lambda: spaces.feed(space, middle))
        watch.after("members", spaces.members)
        watch.after("visible", lambda: spaces.view(space).visible)
    print(json.dumps(watch.facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
