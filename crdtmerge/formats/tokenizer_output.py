"""The tokenizer of a merged model, and what of its configuration depends on it.

Owns the files of the output that speak of tokens: whose they are, and what of them is
written anew. Does not own the vocabulary (`vocabulary`), nor reading (`tokenizer`). Text is
edited as JSON, with whatever else stands in it left as it is; no tokenizer is run.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, TypeAlias

from crdtmerge.errors import BadInputError
from crdtmerge.formats.json_text import json_bytes
from crdtmerge.formats.tokenizer import (
    FAST,
    SLOW_FILES,
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
    TOKENIZER_FILES,
    Json,
    Vocabulary,
    read_object,
)
from crdtmerge.formats.vocabulary import Member, Merged

Files: TypeAlias = Mapping[str, Path | bytes]
"""Files by name: one to copy, or its bytes."""

CONFIG_FILE: Final = "config.json"
ID_FILES: Final = (CONFIG_FILE, "generation_config.json")
"""Files that name tokens by id."""

CUTTING: Final = ("normalizer", "pre_tokenizer")
WORDS: Final = (
    "type",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
)
"""What two tokenizers must have alike for words of one to be met by the other."""

_UNLIKE: Final = "choose the base's vocabulary or a model's in place of the union"


def output_files(
    base: Files, members: Sequence[Member], output: Merged, place: int
) -> Files:
    """Return the files beside the weights, `base` being those of the base.

    `place` is that of the base among the members.

    Raises:
        BadInputError: a tokenizer cannot be made of these, a file is damaged, or nothing
            says where the number of tokens is to stand.
    """
    owner, files = members[output.owner], dict(base)
    if output.owner != place:
        files = {name: f for name, f in files.items() if name not in TOKENIZER_FILES}
        files |= _files_of(owner.vocabulary.path)
    if not output.is_owners:
        files = {name: f for name, f in files.items() if name not in SLOW_FILES}
        document = union_document(members, output)
        files[TOKENIZER_FILE] = json_bytes(document)
        files |= _config_of(files.get(TOKENIZER_CONFIG_FILE), document)
    return {**files, **_numbered(files, members, output, place)}


def _files_of(folder: Path) -> dict[str, Path]:
    paths = (folder / name for name in TOKENIZER_FILES)
    return {path.name: path for path in paths if path.is_file()}


# --- tokenizer.json ------------------------------------------------------------------


def given_ids(document: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids that the library gives the added tokens of a `tokenizer.json`.

    It has no regard for the numbers in the file: a token that is a word has the word's id,
    any other one the next after all.
    """
    vocab = document["model"]["vocab"]
    words = vocab if isinstance(vocab, dict) else {p[0]: i for i, p in enumerate(vocab)}
    size, ids, top = len(vocab), dict[str, int](), -1
    for item in document.get("added_tokens") or ():
        token = item["content"]
        ids.setdefault(token, words.get(token, max(top + 1, size)))
        top = max(top, ids[token])
    return ids


def check_given_ids(vocabulary: Vocabulary) -> None:
    """Refuse a tokenizer to whose tokens the library gives other ids than the file does.

    Raises:
        BadInputError: names the first such token.
    """
    if not vocabulary.document:
        return
    for token, number in given_ids(vocabulary.document).items():
        if vocabulary.ids[token] != number:
            message = (
                f"{vocabulary.path / TOKENIZER_FILE} gives {token!r} the id"
                f" {vocabulary.ids[token]}, and loaders give it {number}"
            )
            raise BadInputError(message, hint="load the tokenizer, and save it again")


def union_document(members: Sequence[Member], output: Merged) -> Json:
    """Return the `tokenizer.json` of the owner with all that was added.

    Raises:
        BadInputError: a tokenizer is not in that form, or its words would not be met.
    """
    document = deepcopy(dict(_document(members[output.owner])))
    model, words = document["model"], set[str]()
    added = {item["content"]: item for item in document.get("added_tokens") or ()}
    for place in dict.fromkeys(place for place, _ in output.more):
        theirs = _document(members[place])
        their_added = {
            item["content"]: item for item in theirs.get("added_tokens") or ()
        }
        new = [token for other, token in output.more if other == place]
        added |= {token: their_added[token] for token in new if token in their_added}
        their_words = [token for token in new if token not in their_added]
        if their_words:
            _check_alike(members, output.owner, place, their_words[0])
            model["vocab"] |= {token: output.ids[token] for token in their_words}
            _add_merges(model, theirs["model"])
            words.update(their_words)
    added |= {token: _plain(token) for token in output.fresh}
    document["added_tokens"] = [
        {**item, "id": output.ids[token]}
        for token, item in sorted(added.items(), key=lambda pair: output.ids[pair[0]])
    ]
    _settle_ids(document, output)
    return document


def _document(member: Member) -> Mapping[str, Any]:
    if member.vocabulary.document:
        return member.vocabulary.document
    message = f"model {member.name!r} has no {TOKENIZER_FILE}, of which a union is made"
    raise BadInputError(message, hint=FAST)


def _check_alike(members: Sequence[Member], owner: int, place: int, word: str) -> None:
    """Refuse words of a tokenizer that cuts text in another way than the owner's."""
    ours, theirs = (_document(members[i]) for i in (owner, place))
    unlike = [key for key in CUTTING if ours.get(key) != theirs.get(key)]
    models = (ours["model"], theirs["model"])
    unlike += [key for key in WORDS if models[0].get(key) != models[1].get(key)]
    if unlike:
        message = (
            f"the tokenizers of {members[owner].name!r} and {members[place].name!r} cut"
            f" text in other ways ({', '.join(unlike)}), so the one would never meet"
            f" words of the other, such as {word!r}"
        )
        raise BadInputError(message, hint=_UNLIKE)
    if not isinstance(models[0]["vocab"], dict):
        message = (
            f"words of {members[place].name!r}, such as {word!r}, have scores (Unigram),"
            f" which mean nothing beside those of {members[owner].name!r}"
        )
        raise BadInputError(message, hint=_UNLIKE)


def _add_merges(ours: Json, theirs: Mapping[str, Any]) -> None:
    """Let the merges of another tokenizer follow ours, in its order."""
    if "merges" not in ours:
        return
    pairs = dict.fromkeys([*_pairs(ours), *_pairs(theirs)])
    ours["merges"] = [[*pair] for pair in pairs]


def _pairs(model: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the merges of a model, each as its two parts.

    Raises:
        BadInputError: they are none.
    """
    merges = model.get("merges", [])
    for merge in merges if isinstance(merges, list) else [merges]:
        match merge.split(" ") if isinstance(merge, str) else merge:
            case [str(first), str(second)]:
                yield first, second
            case _:
                raise BadInputError("merges of a tokenizer are not pairs", hint=FAST)


def _plain(token: str) -> Json:
    flags = ("single_word", "lstrip", "rstrip")
    named = {"id": 0, "content": token, **dict.fromkeys(flags, False)}
    return {**named, "normalized": True, "special": False}


def _settle_ids(document: Json, output: Merged) -> None:
    """Let added tokens have their ids: those that would get others become words too.

    Raises:
        BadInputError: their numbers cannot be given.
    """
    vocab = document["model"]["vocab"]
    ids = {
        item["content"]: output.ids[item["content"]]
        for item in document["added_tokens"]
    }
    if given_ids(document) != ids and isinstance(vocab, dict):
        vocab |= ids
    if given_ids(document) != ids:
        message = "the ids of the union have gaps that its tokenizer cannot have"
        raise BadInputError(message, hint=_UNLIKE)


def _config_of(file: Path | bytes | None, document: Json) -> Files:
    """Return `tokenizer_config.json` if it repeats what tokens were added."""
    config = read_object(file) if isinstance(file, Path) else {}
    if not isinstance(config.get("added_tokens_decoder"), dict):
        return {}
    config["added_tokens_decoder"] = {
        str(item["id"]): {key: value for key, value in item.items() if key != "id"}
        for item in document["added_tokens"]
    }
    return {TOKENIZER_CONFIG_FILE: json_bytes(config)}


# --- config.json ---------------------------------------------------------------------


def _numbered(
    files: Files, members: Sequence[Member], output: Merged, place: int
) -> Files:
    """Return the files that speak of tokens by number, where that has changed."""
    found: dict[str, bytes] = {}
    folder = members[output.owner].vocabulary.path
    for name in ID_FILES:
        path = files.get(name)
        if not isinstance(path, Path):
            continue
        value = read_object(path)
        before = deepcopy(value)
        if name == CONFIG_FILE and output.rows != members[place].rows:
            _set_size(value, output.rows, path)
        if output.owner != place:
            owners = read_object(folder / name) if (folder / name).is_file() else {}
            tokens = {n: t for t, n in members[place].vocabulary.ids.items()}
            _renumber(value, owners, tokens, output.ids)
        if value != before:
            found[name] = json_bytes(value)
    return found


def _set_size(config: Json, rows: int, path: Path) -> None:
    """Set the number of rows, of a model or of the text model in it."""
    places = [config, config.get("text_config")]
    holding = [p for p in places if isinstance(p, dict) and "vocab_size" in p]
    if not holding:
        message = f"{path} has no vocab_size, which would have to be {rows}"
        raise BadInputError(
            message, hint="add it, with the size that the model has now"
        )
    for holder in holding:
        holder["vocab_size"] = rows


def _renumber(
    config: Json,
    owners: Mapping[str, Any],
    tokens: Mapping[int, str],
    ids: Mapping[str, int],
) -> None:
    """Let ids of tokens be those of the model whose tokenizer it is.

    Where that says nothing, the token that was meant has its new id, or none.
    """

    def renumbered(value: object) -> object:
        if isinstance(value, list):
            kept = (renumbered(item) for item in value)
            return [item for item in kept if item is not None]
        if type(value) is not int or value < 0:
            return value
        return ids.get(tokens.get(value, ""))

    for key, value in config.items():
        if isinstance(value, dict):
            inner = owners.get(key)
            _renumber(value, inner if isinstance(inner, dict) else {}, tokens, ids)
        elif key.endswith(("_token_id", "_token_index")):
            config[key] = owners[key] if key in owners else renumbered(value)
    for key, value in owners.items():
        if key.endswith("_token_id"):
            config.setdefault(key, value)
