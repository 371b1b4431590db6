"""The tokenizer of a model folder: which token has which id.

Owns reading it from what the common loaders read: `tokenizer.json`, or `vocab.json` with
`added_tokens.json`. Does not own what is made of several (`vocabulary`), nor how text is
cut into tokens: no tokenizer is run.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crdtmerge.errors import BadInputError

TOKENIZER_FILE: Final = "tokenizer.json"
TOKENIZER_CONFIG_FILE: Final = "tokenizer_config.json"
SPECIAL_TOKENS_FILE: Final = "special_tokens_map.json"
VOCABULARY_FILE: Final = "vocab.json"
ADDED_FILE: Final = "added_tokens.json"
PIECE_FILES: Final = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
"""Files of SentencePiece: a binary form, which is not read."""

SLOW_FILES: Final = (
    *PIECE_FILES,
    VOCABULARY_FILE,
    ADDED_FILE,
    "vocab.txt",
    "merges.txt",
)
"""The same vocabulary in older forms, beside which `tokenizer.json` counts."""

TOKENIZER_FILES: Final = (
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
    SPECIAL_TOKENS_FILE,
    "chat_template.jinja",
    "chat_template.json",
    *SLOW_FILES,
)
"""All that goes with a tokenizer, in whichever form it was saved."""

FILE_BYTES_MAX: Final = 256 << 20
TOKENS_MAX: Final = 1 << 24
MODELS: Final = ("BPE", "WordPiece", "WordLevel", "Unigram")
"""The models of `tokenizer.json`."""

FAST: Final = (
    f"save it with a fast tokenizer, which writes {TOKENIZER_FILE}:"
    " `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`"
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Ids by token; and the `tokenizer.json` that says so, empty if it is another file.

    No two tokens have one id; ids may have gaps.
    """

    path: Path
    ids: Mapping[str, int]
    document: Mapping[str, Any]

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self.ids.values(), default=-1) + 1


def has_tokenizer(folder: Path) -> bool:
    """Tell whether there is a tokenizer in a folder, in a form that is read or not."""
    names = (TOKENIZER_FILE, *SLOW_FILES)
    return any((folder / name).is_file() for name in names)


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Return the vocabulary of a folder; None if it has no tokenizer at all.

    Raises:
        BadInputError: a file is damaged, two tokens have one id, or there is only a form
            that is not read.
    """
    path = folder / TOKENIZER_FILE
    if path.is_file():
        document = read_object(path)
        return Vocabulary(
            folder, _checked(path, _of_document(path, document)), document
        )
    path = folder / VOCABULARY_FILE
    if path.is_file():
        pairs = [*read_object(path).items()]
        if (added := folder / ADDED_FILE).is_file():
            pairs += read_object(added).items()
        return Vocabulary(folder, _checked(path, pairs), {})
    if has_tokenizer(folder):
        message = (
            f"{folder} has a tokenizer without {TOKENIZER_FILE}, which is not read"
        )
        raise BadInputError(message, hint=FAST)
    return None


def read_object(path: Path) -> Json:
    """Return the JSON object in a file.

    Raises:
        BadInputError: it cannot be read, is above the limit, or is none.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            message = f"{path} is above the limit of {FILE_BYTES_MAX} bytes"
            raise BadInputError(message)
        value = json.loads(path.read_bytes())
    except OSError as e:
        raise BadInputError(f"cannot read {path}: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise BadInputError(f"{path} is not JSON") from e
    if not isinstance(value, dict):
        raise BadInputError(f"{path} is not a JSON object")
    return value


def _of_document(path: Path, document: Json) -> list[tuple[object, object]]:
    """Return the tokens of `tokenizer.json` with their ids: those of words, then added."""
    match document.get("model"):
        case {"vocab": dict(vocab)}:
            pairs: list[tuple[object, object]] = [*vocab.items()]
        case {"vocab": [*pieces]} if all(map(_is_piece, pieces)):
            # A piece that is there twice has its last place, as in the library.
            pairs = [*{piece[0]: i for i, piece in enumerate(pieces)}.items()]
        case _:
            raise BadInputError(f"{path} has no model with a vocabulary", hint=FAST)
    added = document.get("added_tokens") or []
    if not isinstance(added, list):
        raise BadInputError(f"{path} has added tokens that are no list")
    for item in added:
        match item:
            case {"id": id_, "content": content}:
                pairs.append((content, id_))
            case _:
                raise BadInputError(f"{path} has an added token without content or id")
    return pairs


def _is_piece(item: object) -> bool:
    """Tell whether an item of a Unigram vocabulary is a text with more, its score."""
    return isinstance(item, list) and bool(item) and isinstance(item[0], str)


def _checked(path: Path, pairs: Iterable[tuple[object, object]]) -> dict[str, int]:
    """Return ids by token, each an integer within bounds that no other token has."""
    ids: dict[str, int] = {}
    tokens: dict[int, str] = {}
    for token, number in pairs:
        if not isinstance(token, str) or type(number) is not int:
            raise BadInputError(f"{path}: a token is not a text with a whole number")
        if not 0 <= number < TOKENS_MAX:
            message = f"{path}: token {token!r} has the id {number}"
            raise BadInputError(f"{message}, not 0 to {TOKENS_MAX - 1}")
        if ids.setdefault(token, number) != number:
            message = f"{path} gives token {token!r} the ids {ids[token]} and {number}"
            raise BadInputError(message, hint="save the tokenizer again")
        if tokens.setdefault(number, token) != token:
            message = (
                f"{path} gives the id {number} to {tokens[number]!r} and {token!r}"
            )
            raise BadInputError(message, hint="save the tokenizer again")
    return ids


def difference(ours: Vocabulary, theirs: Vocabulary) -> str:
    """Return how rows of one id mean different tokens in two vocabularies, or nothing.

    What only one of them has is no difference, if the other has no token of that id.
    """
    tokens = {number: token for token, number in ours.ids.items()}
    for token, number in sorted(theirs.ids.items(), key=lambda item: item[1]):
        if (mine := ours.ids.get(token, number)) != number:
            return f"token {token!r} has id {mine} there, here {number}"
        if (other := tokens.get(number, token)) != token:
            return f"id {number} is {other!r} there, here {token!r}"
    return ""


def same_files(ours: Path, theirs: Path) -> bool:
    """Tell whether two folders have a `tokenizer.json` of equal bytes.

    Raises:
        BadInputError: one cannot be read.
    """
    paths = [folder / TOKENIZER_FILE for folder in (ours, theirs)]
    if not all(path.is_file() for path in paths):
        return False
    try:
        first, second = (path.read_bytes() for path in paths)
    except OSError as e:
        raise BadInputError(f"cannot read {e.filename}: {e.strerror}") from e
    return first == second
