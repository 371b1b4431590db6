"""Tied weights: a head that is the embedding, and stands in some files but not in others.

Owns bringing a model under the names of its base where the two differ in that alone, and
what is said of it. Does not own what else a model may lack (`changes`).

A tied head has no bytes of its own: transformers leaves it out of safetensors files, older
and other tools write it twice. Nothing is guessed. A tensor that the base lacks is left
out if the model holds the same bytes under a name that the base has. One that the model
lacks is taken from its embedding if its config ties the two, or if in the base they are
the same. Both only among the names that heads and embeddings have: norms full of ones are
equal too, and not tied.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import ModelFolder, read_chunks
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.json_text import parse_object
from crdtmerge.manifest import Manifest

CONFIG_FILE: Final = "config.json"
TIE: Final = "tie_word_embeddings"

_HEADS: Final = (
    "decoder",
    "embed_out",
    "generator_lm_head",
    "head",
    "lm_head",
    "lm_loss",
    "output",
    "output_projection",
    "proj_out",
    "vocab_projector",
)
_EMBEDDINGS: Final = (
    "embed_in",
    "embed_tokens",
    "embeddings",
    "shared",
    "tok_embeddings",
    "tokens_embed",
    "word_embedding",
    "word_embeddings",
    "wte",
)
_WEIGHT: Final = re.compile(rf"(?:.+\.)?(?:{'|'.join(_HEADS + _EMBEDDINGS)})\.weight")
_BIAS: Final = re.compile(r"(?:.+\.)?(?:decoder|lm_head|predictions)\.bias")

Form: TypeAlias = tuple[str, tuple[int, ...]]
"""Dtype and shape."""

Same: TypeAlias = Callable[[str, str], bool]
"""Tells whether two tensors of the base, by name, have the same bytes."""


def fit_ties(
    folder: ModelFolder, base: Manifest, same: Same, *, whole: bool = True
) -> ModelFolder:
    """Return a model under the names of its base; its `notes` say what that took.

    Of `base` names, dtypes and shapes count; `same` is asked only if a head is missing.
    What a model that is not `whole` (a delta) lacks is not missing.

    Raises:
        BadInputError: a head that the base lacks differs from every embedding.
    """
    case = _Case(
        {tensor.name: tensor for tensor in folder.tensors},
        {entry.name: (entry.dtype, entry.shape) for entry in base.tensors},
    )
    left_out = {name: case.copied(name) for name in case.excess()}
    tied = None
    taken = {}
    for name in case.lacking() if whole else ():
        tied = _ties(folder) if tied is None else tied
        if (source := case.source(name, same, tied=tied)) is not None:
            taken[name] = source
    notes = [
        f"{name} is left out: it is {copied}, to which the base ties it"
        for name, copied in left_out.items()
        if copied
    ]
    notes += [
        f"{name} is {source.name}, to which it is tied: the files have it once"
        for name, source in taken.items()
    ]
    kept = [t for t in folder.tensors if not left_out.get(t.name)]
    kept += [replace(source, name=name) for name, source in taken.items()]
    tensors = tuple(sorted(kept, key=lambda tensor: tensor.name))
    return replace(folder, tensors=tensors, notes=(*folder.notes, *notes))


def by_blobs(base: Manifest) -> Same:
    """Return how tensors of a named base are compared."""
    blobs = {entry.name: entry.blob for entry in base.tensors}
    return lambda one, two: blobs[one] == blobs[two]


def by_bytes(base: ModelFolder) -> Same:
    """Return how tensors of a base on disk are compared, before they have names."""
    stored = {tensor.name: tensor for tensor in base.tensors}
    return lambda one, two: have_same_bytes(stored[one], stored[two])


@dataclass(frozen=True, slots=True)
class _Case:
    """A model and its base: tensors by name, and dtypes and shapes by name."""

    ours: Mapping[str, StoredTensor]
    theirs: Mapping[str, Form]

    def excess(self) -> list[str]:
        """Return heads and embeddings that the base lacks, where it could have another."""
        names = sorted(self.ours.keys() - self.theirs.keys())
        return [name for name in names if self._partners(name, self._form)]

    def lacking(self) -> list[str]:
        """Return heads and embeddings of the base that the model lacks."""
        names = sorted(self.theirs.keys() - self.ours.keys())
        return [name for name in names if self._partners(name, self.theirs.get)]

    def copied(self, name: str) -> str:
        """Return the tensor that one in excess is a copy of.

        Raises:
            BadInputError: it is none of another's.
        """
        partners = self._partners(name, self._form)
        for partner in partners:
            if have_same_bytes(self.ours[name], self.ours[partner]):
                return partner
        message = (
            f"the model has {name!r}, which the base lacks, and it is not the same as"
            f" {partners[0]!r}: it was trained apart"
        )
        hint = f"use a base that has {name!r} too, saved with {TIE} false"
        raise BadInputError(message, hint=hint)

    def source(self, name: str, same: Same, *, tied: bool) -> StoredTensor | None:
        """Return what the tensor that the model lacks is tied to, if that is certain."""
        partners = self._partners(name, self.theirs.get)
        for partner in partners:
            if same(name, partner):
                return self.ours[partner]
        first, *others = (self.ours[partner] for partner in partners)
        if tied and all(have_same_bytes(first, other) for other in others):
            return first
        return None

    def _form(self, name: str) -> Form:
        return self.ours[name].dtype, self.ours[name].shape

    def _partners(self, name: str, form: Callable[[str], Form | None]) -> list[str]:
        """Return what both have that `name` could be tied to, being of its form.

        SUBTLE: of its form in the one that has it. The other may have more tokens.
        """
        kind = _kind(name)
        if kind is None:
            return []
        both = sorted(self.ours.keys() & self.theirs.keys())
        return [n for n in both if kind.fullmatch(n) and form(n) == form(name)]


def may_be_tied(name: str) -> bool:
    """Tell whether a tensor is called as heads and embeddings are."""
    return _kind(name) is not None


def _kind(name: str) -> re.Pattern[str] | None:
    return next((kind for kind in (_WEIGHT, _BIAS) if kind.fullmatch(name)), None)


def _ties(folder: ModelFolder) -> bool:
    """Tell whether the config beside a model says that its head is its embedding."""
    path = dict(folder.files).get(CONFIG_FILE)
    if path is None:
        return False
    try:
        config = parse_object(path.read_bytes(), CONFIG_FILE)
    except (OSError, BadInputError):
        return False  # whoever needs the config says what is wrong with it
    text = config.get("text_config")
    inner = text if isinstance(text, dict) else {}
    return config.get(TIE, inner.get(TIE)) is True


def have_same_bytes(one: StoredTensor, two: StoredTensor) -> bool:
    """Tell whether two tensors hold the same bytes; most that differ do so early.

    Raises:
        BadInputError: a file is gone, or shorter than when its header was read.
    """
    if one.size != two.size:
        return False
    if (one.path, one.offset) == (two.path, two.offset):
        return True
    pairs = zip(read_chunks(one), read_chunks(two), strict=True)
    return all(a == b for a, b in pairs)
