"""Models of several vocabularies as models of one: checked, aligned, told of.

Owns which models are compared, what is refused, and the notes. Does not own the rule for
a row (`crdtmerge.formats.vocabulary`), nor how rows are written (`alignment`).
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.alignment import Scratch, Table, tables_of
from crdtmerge.formats.folder import ModelFolder
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.mergekit_tokenizer import (
    UNION,
    TokenChoice,
    TokenizerChoice,
)
from crdtmerge.formats.tokenizer import (
    FAST,
    Vocabulary,
    difference,
    has_tokenizer,
    read_vocabulary,
    same_files,
)
from crdtmerge.formats.tokenizer_output import Files, check_given_ids, output_files
from crdtmerge.formats.vocabulary import (
    ZERO,
    Member,
    Merged,
    RowMap,
    Rule,
    merged,
    row_map,
)

NAMED_MAX: Final = 3
"""How many tokens a note names."""


# --- models that are merged row by row -----------------------------------------------


def check_same(ours: ModelFolder, theirs: ModelFolder, hint: str) -> None:
    """Refuse a model whose rows mean other tokens than those of the base, `theirs`.

    Raises:
        BadInputError: says how they differ; `hint` what to do.
    """
    rows = [_rows(folder) for folder in (ours, theirs)]
    if None not in rows and rows[0] != rows[1]:
        message = f"its vocabulary is not the base's: {rows[0]} rows, there {rows[1]}"
        raise BadInputError(message, hint=hint)
    check_same_tokens(ours.path, theirs.path, hint)


def check_same_tokens(ours: Path, theirs: Path, hint: str) -> None:
    """Refuse a folder in which ids mean other tokens than in that of the base.

    Where one has no tokenizer in a form that is read, nothing is compared.

    Raises:
        BadInputError: names the first such token.
    """
    if same_files(ours, theirs):
        return
    read = [_readable(path) for path in (ours, theirs)]
    if read[0] is None or read[1] is None:
        return
    if found := difference(read[0], read[1]):
        message = f"its vocabulary is not the base's: {found}"
        raise BadInputError(message, hint=hint)


def speakers(
    models: Mapping[Path, ModelFolder], stacks: Iterable[ModelFolder]
) -> dict[str, set[Path]]:
    """Return of whose rows stacks of the models' layers are made, by name of the table."""
    found: dict[str, set[Path]] = {}
    homes = {
        (t.path, t.offset): p for p, folder in models.items() for t in folder.tensors
    }
    for stack in stacks:
        try:
            tables = tables_of(stack)
        except BadInputError:
            tables = stack.tensors  # it cannot be told: all may be
        for table in tables:
            found.setdefault(table.name, set()).add(homes[table.path, table.offset])
    return found


def _rows(folder: ModelFolder) -> int | None:
    """Return how many rows the tables of a model have, None if it cannot be told."""
    try:
        return tables_of(folder)[0].shape[0]
    except BadInputError:
        return None


def _readable(path: Path) -> Vocabulary | None:
    """Return the vocabulary of a folder, None if there is none in a form that is read."""
    try:
        return read_vocabulary(path)
    except BadInputError:
        return None


# --- models that are aligned ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aligned:
    """Models in the rows of one vocabulary, once `scratch` was written.

    `moved` are the tensors of the base that are not what they were; `files` stand beside
    the weights of the output.
    """

    folders: Mapping[Path, ModelFolder]
    moved: frozenset[str]
    files: Files
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Models:
    """Models in the order in which they are listed, the base (or the first) at `base`."""

    folders: Sequence[ModelFolder]
    members: Sequence[Member]
    tables: Mapping[str, Table]
    base: int

    def place(self, path: Path, what: str) -> int:
        """Return the place of a model that takes part."""
        for place, folder in enumerate(self.folders):
            if folder.path == path:
                return place
        message = f"{what}: {path} is not one of the models that are merged"
        raise BadInputError(message, hint="list it among the models")


def align(
    folders: Mapping[Path, ModelFolder],
    names: Mapping[Path, str],
    base: Path,
    choice: TokenizerChoice,
    scratch: Scratch,
    *,
    based: bool,
    near: Mapping[str, Container[Path]] = MappingProxyType({}),
) -> Aligned:
    """Return models in the rows of the vocabulary that was chosen.

    `names` are for messages. `based` says that `base` is a base_model, whose rows go before
    others where a model lacks a token. `near` are the models that are merged in a table,
    by its name, where that is not all: they stand in before others. Nothing is written
    yet.

    Raises:
        BadInputError: a tokenizer cannot be read, tables cannot be told from other
            tensors, or a choice cannot be served.
    """
    notes: list[str] = []
    models = _models(folders, names, base, notes)
    place = models.base
    owner = place
    if isinstance(choice.source, Path):
        owner = models.place(choice.source, "tokenizer source")
    output = merged(
        models.members,
        owner,
        union=choice.source == UNION,
        tokens=[token.token for token in choice.tokens],
        multiple=choice.multiple,
    )
    rules = {token.token: _rule(models, token) for token in choice.tokens}
    ground = place if based else None

    @cache
    def rows_of(place: int, together: frozenset[int]) -> RowMap:
        return row_map(models.members, place, output, ground, rules, near=together)

    def rows(place: int, name: str) -> RowMap:
        together = near.get(name, ())
        chosen = (i for i, f in enumerate(models.folders) if f.path in together)
        return rows_of(place, frozenset(chosen))

    found = {
        folder.path: _moved(folder, i, models.tables, partial(rows, i), scratch)
        for i, folder in enumerate(models.folders)
    }
    notes += _told(models, output, rules)
    before = {tensor.name: tensor for tensor in folders[base].tensors}
    moved = {t.name for t in found[base].tensors if t != before[t.name]}
    files = output_files(dict(folders[base].files), models.members, output, place)
    if behind := [name for name, _ in folders[base].files if name not in files]:
        notes.append(f"left out with the base's tokenizer: {', '.join(behind)}")
    return Aligned(found, frozenset(moved), files, tuple(notes))


def align_to_base(
    folder: ModelFolder, base: ModelFolder, scratch: Scratch
) -> tuple[ModelFolder, tuple[str, ...]]:
    """Return a model in the rows of its base as they are, and what is to be told of it.

    Tokens that the base lacks are dropped; for those that the model lacks it has the
    base's rows. Nothing is written yet.

    Raises:
        BadInputError: a tokenizer cannot be read, or tables cannot be told from other
            tensors.
    """
    folders = {base.path: base, folder.path: folder}
    models = _models(
        folders, {base.path: "the base", folder.path: "this"}, base.path, []
    )
    theirs, ours = models.members[0], models.members[-1]
    ids = {token: i for token, i in theirs.vocabulary.ids.items() if i < theirs.rows}
    output = Merged(0, ids, theirs.rows)
    place = len(models.members) - 1
    rows = row_map(models.members, place, output, 0, {})
    notes = []
    if lost := [
        t for t in ours.vocabulary.ids if t not in ids and ours.row(t) is not None
    ]:
        notes.append(f"dropped, for the base lacks them: {some(lost)}")
    if lacks := [token for token in ids if ours.row(token) is None]:
        notes.append(f"the base's rows stay, for the model lacks them: {some(lacks)}")
    found = _moved(folder, place, models.tables, lambda _: rows, scratch)
    return found, tuple(notes)


def _models(
    folders: Mapping[Path, ModelFolder],
    names: Mapping[Path, str],
    base: Path,
    notes: list[str],
) -> _Models:
    tables = {path: tables_of(folder) for path, folder in folders.items()}
    theirs = read_known(base, names[base])
    members = []
    for path, found in tables.items():
        rows = found[0].shape[0]
        if path == base or has_tokenizer(path):
            vocabulary = theirs if path == base else read_known(path, names[path])
        elif rows == tables[base][0].shape[0]:
            vocabulary = theirs
            notes.append(f"model {names[path]!r} has no tokenizer: the base's is taken")
        else:
            message = f"model {names[path]!r} has no tokenizer, and {rows} rows"
            raise BadInputError(message, hint=FAST)
        members.append(Member(names[path], vocabulary, rows))
    by_name: dict[str, dict[int, StoredTensor]] = {}
    for place, found in enumerate(tables.values()):
        for tensor in found:
            by_name.setdefault(tensor.name, {})[place] = tensor
    return _Models(
        list(folders.values()),
        members,
        {name: Table(name, tensors) for name, tensors in by_name.items()},
        list(folders).index(base),
    )


def read_known(path: Path, name: str) -> Vocabulary:
    """Return the vocabulary of a model that must have one.

    Raises:
        BadInputError: it has none, or one that loaders read in another way.
    """
    found = read_vocabulary(path)
    if found is None:
        message = f"model {name!r} has no tokenizer beside it"
        raise BadInputError(message, hint=FAST)
    check_given_ids(found)
    return found


def _rule(models: _Models, token: TokenChoice) -> Rule:
    """Return the rule of one token, whose source must have the row."""
    if token.model is None:
        return Rule(ZERO, 0, token.force)
    what = f"token {token.token!r}"
    place = models.place(token.model, what)
    member, other = models.members[place], token.other
    if isinstance(other, int):
        row = other if other < member.rows else None
    else:
        row = member.row(token.token if other is None else other)
    if row is None:
        wanted = (
            f"id {other}" if isinstance(other, int) else f"{other or token.token!r}"
        )
        message = f"{what}: model {member.name!r} has no row for {wanted}"
        raise BadInputError(message, hint="name a model that has it")
    return Rule(place, row, token.force)


def _moved(
    folder: ModelFolder,
    place: int,
    tables: Mapping[str, Table],
    rows: Callable[[str], RowMap],
    scratch: Scratch,
) -> ModelFolder:
    """Return a model with the rows of its tables where the map of each has them."""

    def aligned(tensor: StoredTensor) -> StoredTensor:
        table = tables.get(tensor.name)
        if table is None or place not in table.members:
            return tensor
        return scratch.align(table, place, rows(tensor.name))

    return replace(folder, tensors=tuple(map(aligned, folder.tensors)))


def _told(models: _Models, output: Merged, rules: Mapping[str, Rule]) -> list[str]:
    """Return what the user should know of the vocabulary, and of what has no row."""
    size = len(output.ids)
    whose = f"the vocabulary of {models.members[output.owner].name!r}"
    more = size - len(models.members[output.owner].vocabulary.ids)
    whose += f" and {more} more" if more else ""
    notes = [f"the output has {whose}: {size} tokens in {output.rows} rows"]
    for member in models.members:
        ids = member.vocabulary.ids
        if lost := [token for token in ids if token not in output.ids]:
            notes.append(f"of model {member.name!r} {some(lost)} are left out")
        spare = member.rows - max(output.rows, member.vocabulary.size)
        if spare > 0:
            notes.append(f"of model {member.name!r} {spare} rows without a token go")
        lacks = [token for token in output.ids if member.row(token) is None]
        if lacks := [token for token in lacks if token not in rules]:
            notes.append(
                f"model {member.name!r} lacks {some(lacks)}: others' rows stand in"
            )
    nobody = [
        token
        for token in output.ids
        if token not in rules and all(m.row(token) is None for m in models.members)
    ]
    if nobody:
        notes.append(f"no model has a row for {some(nobody)}: it is the mean of all")
    return notes


def some(tokens: Sequence[str]) -> str:
    """Return how many tokens there are, and the first of them."""
    named = ", ".join(repr(token) for token in tokens[:NAMED_MAX])
    more = ", ..." if len(tokens) > NAMED_MAX else ""
    return f"{len(tokens)} token{'s' * (len(tokens) != 1)} ({named}{more})"
