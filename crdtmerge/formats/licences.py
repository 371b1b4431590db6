"""The licence that a folder states: in its model card, or in a file of its own.

Owns where a statement may stand. Does not own what follows from it. Nothing is guessed:
a text without a name is named by its file, and what cannot be read states nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.yaml_text import Plain, parse_yaml

CARD_BYTES_MAX: Final = 4 << 20
FILES_MAX: Final = 4
CHARACTERS_MAX: Final = 200

_FENCE: Final = "---"
_STEMS: Final = ("license", "licence", "copying", "notice", "use_policy")


@dataclass(frozen=True, slots=True)
class Licence:
    """What a folder states: the identifier of its card, and files that hold a text.

    `name` and `link` go with the identifier `other`, as the Hub has it.
    """

    identifier: str = ""
    name: str = ""
    link: str = ""
    files: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether anything is stated."""
        return bool(self.identifier or self.files)


def licence_of(folder: Path) -> Licence:
    """Return the licence that a model's or adapter's folder states."""
    if not folder.is_dir():
        return Licence()
    try:
        files = sorted(item.name for item in folder.iterdir() if item.is_file())
    except OSError:
        return Licence()
    texts = [n for n in files if n.lower().replace("-", "_").startswith(_STEMS)]
    said = _front_matter(folder / "README.md")
    return Licence(
        _text(said.get("license")),
        _text(said.get("license_name")),
        _text(said.get("license_link")),
        tuple(texts[:FILES_MAX]),
    )


def _text(value: Plain) -> str:
    """Return what a key says on one line; some cards list several identifiers."""
    items = value if isinstance(value, list) else [value]
    words = [" ".join(item.split()) for item in items if isinstance(item, str)]
    return ", ".join(words)[:CHARACTERS_MAX]


def _front_matter(card: Path) -> dict[str, Plain]:
    """Return the values at the top of a model card; none if it is not of the form."""
    try:
        if card.stat().st_size > CARD_BYTES_MAX:
            return {}
        lines = card.read_text("utf-8-sig").splitlines()
        if not lines or lines[0].rstrip() != _FENCE:
            return {}
        ends = [i for i, line in enumerate(lines) if i and line.rstrip() == _FENCE]
        found = parse_yaml("\n".join(lines[1 : ends[0]])) if ends else None
    except (OSError, UnicodeDecodeError, BadInputError):
        return {}
    return found if isinstance(found, dict) else {}
