"""A user's copy of a base whose files hold tied weights once more, or once less.

Owns finding, among the few ways to write one tied model, the one that a space was founded
on. Does not own what may be tied (`tying`).

A ticket names its base by content id alone, which covers names. Older PyTorch files of a
model hold a tied head and its embedding, the safetensors files of the same revision one of
the two. So what a copy holds several times is tried with each of its names left out, and
an embedding as `lm_head.weight` too. The content id decides.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain, combinations, islice, product
from typing import Final

from crdtmerge.formats.ingest import Model, Source
from crdtmerge.formats.tying import may_be_tied
from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import TensorFacts

WAYS_MAX: Final = 256
HEAD: Final = "lm_head.weight"

_Held = tuple[TensorEntry, Source]


def as_base(
    model: Model, facts: Mapping[str, TensorFacts], content: bytes
) -> tuple[Model, Mapping[str, TensorFacts]] | None:
    """Return a model, and the facts of its tensors, as the base of this content id.

    None if it is another model, however its tied tensors are named.
    """
    if model.manifest.content_id == content:
        return model, facts
    held = list(zip(model.manifest.tensors, model.sources, strict=True))
    for way in islice(_ways(held), WAYS_MAX):
        named = sorted(way, key=lambda item: item[0].name)
        entries = tuple(entry for entry, _ in named)
        manifest = replace(model.manifest, tensors=entries)
        if manifest.content_id == content:
            sources = tuple(source for _, source in named)
            said = _said(model.manifest.tensors, entries)
            found = replace(model, manifest=manifest, sources=sources, notes=said)
            return found, _facts(facts, model.manifest.tensors, entries)
    return None


def _ways(held: list[_Held]) -> Iterator[list[_Held]]:
    """Yield the ways to write the model."""
    groups: dict[bytes, list[_Held]] = {}
    for item in held:
        if may_be_tied(item[0].name):
            groups.setdefault(item[0].blob, []).append(item)
    rest = [item for item in held if not may_be_tied(item[0].name)]
    for chosen in product(*(_subsets(group) for group in groups.values())):
        kept = [item for subset in chosen for item in subset]
        yield rest + kept
        if all(entry.name != HEAD for entry, _ in kept):
            for entry, source in kept:
                yield [*rest, *kept, (replace(entry, name=HEAD), source)]


def _subsets(group: list[_Held]) -> list[tuple[_Held, ...]]:
    """Return the ways to keep a tensor that is there several times, at least once."""
    sizes = range(len(group), 0, -1)
    ways = chain.from_iterable(combinations(group, n) for n in sizes)
    return list(islice(ways, WAYS_MAX))


def _said(
    before: tuple[TensorEntry, ...], after: tuple[TensorEntry, ...]
) -> tuple[str, ...]:
    names = {e.name for e in before} ^ {e.name for e in after}
    listed = ", ".join(sorted(names))
    return (f"tied tensors count as the base of the space has them: {listed}",)


def _facts(
    facts: Mapping[str, TensorFacts],
    before: tuple[TensorEntry, ...],
    after: tuple[TensorEntry, ...],
) -> Mapping[str, TensorFacts]:
    """Return the facts by the names of the base: equal bytes have equal facts."""
    of_blobs = {e.blob: facts[e.name] for e in before if e.name in facts}
    return {e.name: of_blobs[e.blob] for e in after if e.blob in of_blobs}
