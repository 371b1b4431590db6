"""A message's worth of records, and single ones, added to a large home.

    python -m benchmarks.scale.adding HOME

The home keeps them: the next run adds others. Making them is not measured.
"""

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Final

from crdtmerge.record import SignedRecord
from nodes.home import open_home
from nodes.spaces import Spaces

from .making import Writer
from .watch import Watch

MESSAGE: Final = 3_500
"""Records of this kind that fit in one message."""
SINGLE: Final = 100


def main(path: Path) -> None:
    """Measure, and print JSON."""
    with open_home(path, write=True) as home:
        spaces = Spaces(home.records, home.blobs)
        (space,) = spaces.all()
        writer = Writer.resumed(home.records.log(space))
        records = writer.more()
        batch, ones = list(islice(records, MESSAGE)), list(islice(records, SINGLE))
        watch = Watch()
        watch.after(f"{MESSAGE} in a batch", lambda: spaces.commit(space, batch))
        watch.after("root", lambda: spaces.opset(space).root)
        watch.after(f"{SINGLE} one by one", lambda: _each(spaces, ones))
    print(json.dumps(watch.facts))


def _each(spaces: Spaces, ones: list[SignedRecord]) -> None:
    for one in ones:
        spaces.commit(one.record.space_id, [one])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
