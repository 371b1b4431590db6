"""What is done with files that users give, weights aside: read where they lie.

Owns these reads. Does not own models' files (`reading_weights`), nor where files lie
(`scratch`).
"""

import json
from contextlib import suppress
from typing import Final

from crdtmerge.errors import (
    BadInputError,
    EncodingError,
    MalformedRecordError,
    MalformedTicketError,
    VerificationError,
)
from crdtmerge.formats.licences import licence_of
from crdtmerge.formats.mergekit import Configuration, read_configuration
from crdtmerge.formats.recipe_file import read_recipe_file
from crdtmerge.formats.toml_text import parse_toml
from crdtmerge.formats.yaml_text import Plain, parse_yaml
from crdtmerge.resolve.parse import _resolution, parse_resolution
from crdtmerge.resolve.verify import read_resolution as read_resolution_of
from crdtmerge.sizes import size_of
from crdtmerge.strategies.texts import parse_result, parse_weight
from nodes.archive.form import (
    decode_header,
    decode_records,
    encode_records,
    read_entry_head,
)
from nodes.archive.reading import Archive
from nodes.passphrase import from_file
from nodes.ticket import PREFIX, decode_ticket
from tests.fuzz.scratch import written
from tests.fuzz.sums import ticket_of
from tests.fuzz.target import USER, Refusals, either

TICKETS: Final[Refusals] = (MalformedTicketError,)


def text_of(data: bytes) -> str:
    """Return text as a command line or a file has it: what is no UTF-8 is escaped."""
    return data.decode(errors="surrogateescape")


# --- tickets, sizes, passphrases, archives ----------------------------------------------


def read_ticket(data: bytes) -> None:
    """Read a ticket as it stands, and as if its checksum were right."""

    def read(text: str) -> None:
        ticket = decode_ticket(text)
        assert decode_ticket(ticket.encode()) == ticket
        assert ticket.encode().startswith(PREFIX)

    either(TICKETS, lambda: read(text_of(data)), lambda: read(ticket_of(data)))


def read_size(data: bytes) -> None:
    """Read a size, or a weight, as people write it."""
    text = text_of(data)
    either(
        USER,
        lambda: check_number(size_of(text)),
        lambda: check_number(parse_weight(text)),
        lambda: check_result(parse_result(text)),
    )


def check_result(number: int) -> None:
    """Check that a result of an evaluation has nine digits before the point and after."""
    assert abs(number) < 10**18


def check_number(number: int) -> None:
    """Check that a number is none below zero."""
    assert number >= 0


def read_passphrase(data: bytes) -> None:
    """Read the file of a passphrase."""
    path = written("passphrase", data)
    path.chmod(0o600)
    assert from_file(path).secret


def read_archive_header(data: bytes) -> None:
    """Read the header of a space as one file."""
    assert decode_header(data).encode() == data


def read_archive_entry(data: bytes) -> None:
    """Read the head of an entry, the rest of a block being zeros."""
    name, size = read_entry_head(data[:512].ljust(512, b"\0"))
    assert name
    assert size >= 0


def read_archive_records(data: bytes) -> None:
    """Read an entry of records."""
    assert encode_records(decode_records(data)) == data


def read_archive(data: bytes) -> None:
    """Read a space as one file, entry by entry."""
    with Archive(written("space.tar", data)) as archive:
        for batch in archive.records():
            assert isinstance(batch, list)
        for entry in archive.blobs().values():
            assert entry.offset + entry.size <= archive.size
            archive.read(entry, 1 << 20)


# --- what people write ------------------------------------------------------------------


def check_plain(value: Plain) -> None:
    """Check that a value is of the plain kinds alone."""
    if isinstance(value, list):
        for item in value:
            check_plain(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            assert isinstance(key, str)
            key.encode()
            check_plain(item)
    elif isinstance(value, str):
        value.encode()


def file_text(data: bytes) -> str:
    """Return the text of a file, of which only UTF-8 is read."""
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        raise BadInputError("not UTF-8") from e


def read_yaml(data: bytes) -> None:
    """Read YAML: what comes out can be written down as UTF-8."""
    check_plain(parse_yaml(file_text(data)))


def read_toml(data: bytes) -> None:
    """Read TOML."""
    check_plain(parse_toml(file_text(data)))


def read_recipe_yaml(data: bytes) -> None:
    """Read a recipe file in YAML."""
    read_recipe_file(written("recipe.yaml", data))


def read_recipe_toml(data: bytes) -> None:
    """Read a recipe file in TOML."""
    read_recipe_file(written("recipe.toml", data))


NAMES = ["model.layers.0.mlp.weight", "model.layers.1.mlp.weight", "head"]


def read_mergekit(data: bytes) -> None:
    """Read a configuration of mergekit, and the recipe that it asks for."""
    found = read_configuration(written("merge.yml", data))
    if not isinstance(found, Configuration):
        found = found.laid_out(dict.fromkeys(found.places, NAMES))
    contents = [bytes([i % 256]) * 32 for i in range(len(found.models))]
    assert len(found.recipe_for(contents, NAMES).digest) == 32
    assert found.first in found.places


def read_resolution(data: bytes) -> None:
    """Read a `resolution.json` as it stands, and as if its digests were right."""
    folder = written("resolved/resolution.json", data).parent
    again = with_right_digests(data)
    assert parse_resolution(again).to_json() == again
    with suppress(VerificationError):
        assert read_resolution_of(folder).to_json() == again


def with_right_digests(data: bytes) -> str:
    """Return the text that a resolution would have, were its digests those of the rest."""
    try:
        return _resolution(json.loads(data)).to_json()
    except (ValueError, RecursionError, EncodingError, MalformedRecordError) as e:
        raise BadInputError("none") from e


def read_licence(data: bytes) -> None:
    """Read the licence that a model card states: what it cannot read states nothing."""
    found = licence_of(written("card/README.md", data).parent)
    assert len(found.identifier) <= 200
    f"{found.identifier}{found.name}{found.link}".encode()
