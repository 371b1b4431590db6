"""Homes with a space, and its file taken apart by Python's own tar, for tests of both."""

import io
import itertools
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crdtmerge.codec import decode, encode
from crdtmerge.record import decode_record
from crdtmerge.trie import Trie
from nodes.home import open_home
from tests.homes import Fleet, write_model

Entries = list[tuple[str, bytes]]


@dataclass
class Shared:
    """One home with a space of two fine-tunes, and one that never met it."""

    folder: Path
    fleet: Fleet
    ann: Path
    ben: Path
    base: Path

    @classmethod
    def at(cls, folder: Path, seed: int = 1) -> "Shared":
        """Found the space; the same seed gives the same keys and ids."""
        fleet = Fleet(folder, itertools.count(seed))
        base = write_model(folder / "base", 0)
        made = cls(folder, fleet, fleet.init("ann"), fleet.init("ben"), base)
        fleet.call(made.ann, "space_create", name="s", base=base, strategy="ties")
        for i in (1, 2):
            made.contribute(i)
        return made

    def contribute(self, number: int) -> Any:
        """Contribute a fine-tune from ann's home."""
        tune = write_model(self.folder / f"tune{number}", number, near=self.base)
        return self.fleet.call(self.ann, "contribute", path=tune)

    @property
    def file(self) -> Path:
        """Where the space is exported to."""
        return self.folder / "space.tar"

    def export(self, home: Path | None = None, **options: object) -> Any:
        """Export the space of a home."""
        given = {"space": "s", "file": self.file, "force": True, **options}
        return self.fleet.call(home or self.ann, "space_export", **given)

    def import_(self, home: Path | None = None, **options: object) -> Any:
        """Import the file into a home."""
        given = {"file": self.file, **options}
        return self.fleet.call(home or self.ben, "space_import", **given)

    def resolved(self, home: Path) -> dict[str, bytes]:
        """Return what a home makes of the space."""
        out = self.folder / "outs" / home.name
        self.fleet.call(home, "resolve", out=out, force=True)
        return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def entries(data: bytes) -> Entries:
    """Return the entries of a tar as Python's own reader finds them."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        found = []
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None
            found.append((member.name, file.read()))
    return found


def packed(items: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the tar of these entries, each as plain as can be."""
    out = io.BytesIO()
    for name, data in items:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        out.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        out.write(data + bytes(-len(data) % 512))
    return out.getvalue() + bytes(1024)


def files_of(home: Path) -> list[str]:
    """Return the files that lie about in a home beside its blobs."""
    return [
        str(path.relative_to(home))
        for name in ("partial", "temporary")
        for path in (home / name).rglob("*")
    ]


def blobs_of(home: Path) -> set[str]:
    """Return the blobs of a home."""
    with open_home(home, write=False) as opened:
        return {blob.hex() for blob in opened.blobs.ids()}


def header(items: Entries) -> dict[str, object]:
    """Return what the header of a file says."""
    return dict(json.loads(items[0][1]))


def with_header(items: Entries, **changed: object) -> Entries:
    """Return the entries with another header, spelt as headers are."""
    facts = {**header(items), **changed}
    text = json.dumps(facts, indent=1, sort_keys=True) + "\n"
    return [(items[0][0], text.encode()), *items[1:]]


def recounted(items: Entries) -> bytes:
    """Return the file with a header whose numbers are right."""
    blobs = [data for name, data in items if name.startswith("blobs/")]
    records = [
        pair
        for name, data in items
        if name.startswith("records/")
        for pair in pairs(data)
    ]
    root = Trie.build(decode_record(data).id for data, _ in records).root
    return packed(
        with_header(
            items,
            blobs=len(blobs),
            blob_bytes=sum(map(len, blobs)),
            records=len(records),
            record_root=root.hex(),
        )
    )


def pairs(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return what an entry of records holds."""
    value = decode(data, 1 << 20)
    assert isinstance(value, list)
    return [(record, signature) for record, signature in value]


def with_records(items: Entries, found: list[tuple[bytes, bytes]]) -> Entries:
    """Return the entries with these records in place of what was there."""
    rest = [item for item in items if not item[0].startswith("records/")]
    data = encode([list(pair) for pair in found])
    return [rest[0], ("records/000000", data), *rest[1:]]
