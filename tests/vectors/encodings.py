"""Encoded chunks that every later version must read, and what they decode to.

`python -m tests.vectors.encodings` prints vectors as this version encodes them. Those that
were written down once are never replaced, only added to: encoders may improve, but a chunk
lies on disks and comes from peers in the form of its day.
"""

import json
import sys
from collections.abc import Iterator

import numpy as np

from crdtmerge.digest import chunk_digest
from crdtmerge.encodings import BASED, WIDTHS, Form, encode

SEED = 20


def cases() -> Iterator[tuple[str, bytes, bytes, int]]:
    """Yield a title, a chunk, the chunk of the base, and the width of items."""
    rng = np.random.default_rng(SEED)
    for width in WIDTHS:
        items = 320 // width
        kind = np.dtype(f"<u{width}")
        base = rng.integers(0, np.iinfo(kind).max, items, kind)
        for reach in (1, 3, 90):
            step = rng.integers(-reach, reach + 1, items).astype(kind)
            title = f"width {width}, moves of {reach}"
            yield (
                title,
                (base + step).tobytes() + b"\x01",
                base.tobytes() + b"\x02",
                width,
            )
    repeated = np.arange(16, dtype="<u2").tobytes() * 20
    yield "repetitions", repeated, bytes(len(repeated)), 2
    yield "the base itself", repeated, repeated, 2
    far = rng.choice(np.array([0, 255], np.uint8), 320)
    yield "bytes far apart", far.tobytes(), bytes(320), 1


def vectors() -> list[dict[str, object]]:
    """Return every form of every case that is shorter than the raw chunk."""
    found: list[dict[str, object]] = []
    for title, raw, base, width in cases():
        for form in Form:
            data = encode(raw, width=width, against=base, form=form)
            if data is None:
                continue
            found.append(
                {
                    "title": f"{title}, {form.name}",
                    "data": data.hex(),
                    "base": base.hex() if form in BASED else None,
                    "length": len(raw),
                    "digest": chunk_digest(raw).hex(),
                }
            )
    return found


def main() -> None:
    """Print the vectors."""
    json.dump(vectors(), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
