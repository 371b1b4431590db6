"""What one look of a node at a large home takes: until it knows what is shown, and then.

    python -m benchmarks.scale.looking HOME

Nothing of what the space offers is here, so a look is at as much as it may be. Owns how
often is looked; does not own what a look is (`nodes.choices`).
"""

import json
import random
import sys
import time
from pathlib import Path
from typing import Final

from nodes.choices import Choices
from nodes.home import open_home
from nodes.memory import pass_once
from nodes.quotas import AUTHOR_BYTES
from nodes.spaces import Spaces

from .watch import Watch

LATER: Final = 50


def main(path: Path) -> None:
    """Measure, and print JSON."""
    watch = Watch()
    pass_once(time.monotonic)
    with open_home(path, write=True) as home:
        spaces = Spaces(home.records, home.blobs)
        spaces.author_bytes = AUTHOR_BYTES
        (space,) = spaces.all()
        choices = Choices(spaces, random.Random(1))
        first: list[float] = []
        watch.after("until all is known", lambda: _looks(choices, spaces, first))
        later: list[float] = []
        watch.after(f"{LATER} later", lambda: _later(choices, later))
        records = len(spaces.opset(space))
    worst = {"first": max(first), "later": max(later)}
    watch.facts["looks"] = {"records": records, "count": len(first)}
    watch.facts["longest, processor_seconds"] = {
        n: round(s, 3) for n, s in worst.items()
    }
    print(json.dumps(watch.facts))


def _looks(choices: Choices, spaces: Spaces, times: list[float]) -> None:
    (space,) = spaces.all()
    while not times or not spaces.opset(space).meaning.shown_by(0)[1]:
        _later(choices, times, 1)


def _later(choices: Choices, times: list[float], count: int = LATER) -> None:
    for _ in range(count):
        began = time.process_time()
        choices.look()
        times.append(time.process_time() - began)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
