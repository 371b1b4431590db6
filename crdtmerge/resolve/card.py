"""The model card of an output: its README.md, for people and for the Hub.

Owns the words. Does not own the facts: those of the merge are the resolution's, those of
people and folders are given. It says nothing of time, host or path, so replicas that
resolve the same write the same card.

Names, notes and licences are other people's words: they stand in code spans and quoted
scalars, where nothing in them is markup.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.codec import format_decimal
from crdtmerge.formats.licences import Licence
from crdtmerge.formats.model_config import ModelConfig
from crdtmerge.formats.recipe_text import recipe_to_yaml, scalar
from crdtmerge.resolve.resolution import Resolution, Source

LISTED_MAX: Final = 256
"""Contributions that are told of one by one; resolution.json has all."""
AUTHORS_MAX: Final = 8
NOTES_MAX: Final = 8

HUB_NAME: Final = re.compile(
    r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII
)
"""What a model on the Hub is called: `owner/name`."""

_IDENTIFIER: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,95}")
_PIECES: Final = re.compile(r"\S.*?\[\d+:\d+\](?= |$)", re.ASCII)
_CAUSAL: Final = ("ForCausalLM", "LMHeadModel")
_TICKS: Final = re.compile("`+")


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of one model beyond its digests; names as the user wrote them."""

    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    licence: Licence = field(default_factory=Licence)


@dataclass(frozen=True, slots=True)
class Origins:
    """What is known of all models of a merge.

    `space` is the name of the space, empty for a merge of folders. `base` is None where
    models were merged without one; `taken_from` then names the model whose files went
    along. `models` are those whose layers base and contributions are made of, if they are.
    """

    space: str = ""
    base: Origin | None = field(default_factory=Origin)
    contributions: Mapping[bytes, Origin] = field(default_factory=dict)
    taken_from: str = ""
    models: tuple[Origin, ...] = ()

    def of(self, source: Source) -> Origin:
        """Return what is known of a contribution."""
        return self.contributions.get(source.content, Origin())

    def all(self, sources: Iterable[Source]) -> list[Origin]:
        """Return what is known of each model: of the base, and of each contribution."""
        if self.models:
            return list(self.models)
        first = [] if self.base is None else [self.base]
        return [*first, *map(self.of, sources)]


def card_text(
    resolution: Resolution, origins: Origins, config: ModelConfig | None = None
) -> bytes:
    """Return the text of the card; `config` is that of the model, if it has one."""
    parts = [
        _front_matter(resolution, origins, config),
        _opening(resolution, origins),
        _contributions(resolution, origins),
        _licences(resolution, origins),
        ["## Recipe", "", "```yaml", recipe_to_yaml(resolution.recipe) + "```"],
        _digests(resolution),
        _verifying(resolution),
        _loading(resolution, config),
    ]
    return ("\n\n".join("\n".join(lines) for lines in parts) + "\n").encode()


def _front_matter(
    resolution: Resolution, origins: Origins, config: ModelConfig | None
) -> list[str]:
    """Return what the Hub reads."""
    everybody = origins.all(resolution.contributions)
    names = dict.fromkeys(name for origin in everybody for name in origin.names)
    models = [name for name in names if HUB_NAME.fullmatch(name)]
    library = "peft" if resolution.adapter else "transformers" if config else ""
    strategy = resolution.recipe.strategy.partition("/")[0]
    return [
        "---",
        *_listed("base_model", models),
        *([f"library_name: {library}"] if library else []),
        *_common_licence([origin.licence for origin in everybody]),
        *_listed("tags", ["merge", "crdtmerge", strategy]),
        "---",
    ]


def _listed(key: str, items: Sequence[str]) -> list[str]:
    return [f"{key}:", *(f"- {scalar(item)}" for item in items)] if items else []


def _common_licence(licences: Sequence[Licence]) -> list[str]:
    """Return the licence that all inputs state; nothing if one states another or none."""
    stated = {(own.identifier, own.name, own.link) for own in licences}
    if len(stated) != 1:
        return []
    ((identifier, name, link),) = stated
    if not _IDENTIFIER.fullmatch(identifier):
        return []
    more = {"license": identifier, "license_name": name, "license_link": link}
    return [f"{key}: {scalar(text)}" for key, text in more.items() if text]


def _opening(resolution: Resolution, origins: Origins) -> list[str]:
    what = "adapter" if resolution.adapter else "model"
    count = len(resolution.contributions)
    if not resolution.space:
        of = f"{count} models" if count > 1 else "a model"
        lines = [f"# A merge of {of}", ""]
        lines += [f"crdtmerge computed this {what} from the folders below."]
        if origins.base is None:
            source = code(shown(origins.taken_from))
            lines += [f"Configuration and tokenizer are those of {source}."]
        return lines
    of = f"{count} contributions" if count > 1 else "one contribution"
    return [
        f"# {code(origins.space)}: {of}, merged",
        "",
        f"crdtmerge computed this {what} from contributions to a space. Whoever has the",
        "same contributions, base and recipe computes the same bytes.",
    ]


def _contributions(resolution: Resolution, origins: Origins) -> list[str]:
    inputs = resolution.contributions
    lines = ["## Contributions" if resolution.space else "## Models", ""]
    if origins.base is not None:
        known = f"{_named(origins.base)}, " if origins.base.names else ""
        lines += [f"* The base: {known}content `{resolution.base.hex()}`"]
    for source in inputs[:LISTED_MAX]:
        lines += [f"* {', '.join(_told(source, origins.of(source)))}"]
    if more := len(inputs) - LISTED_MAX:
        lines += [f"* and {more} more: see resolution.json"] if more > 0 else []
    return lines


def _told(source: Source, origin: Origin) -> Iterator[str]:
    if origin.names:
        yield _named(origin)
    yield f"content `{source.content.hex()}`"
    yield f"weight {format_decimal(source.weight)}"
    yield from (f"{name} {code(text)}" for name, text in source.parameters)
    if source.authors:
        yield "by " + _several(
            [f"`{a.hex()}`" for a in source.authors], AUTHORS_MAX, " and "
        )
    if source.tags:
        yield f"tagged {' '.join(map(code, source.tags))}"
    if source.unread is not None:
        yield f"{source.unread.tensors} of its tensors not read, for the I/O budget"
    if notes := [note for note in origin.notes if note]:
        yield "noted " + _several([code(note) for note in notes], NOTES_MAX, " / ")


def _named(origin: Origin) -> str:
    return " = ".join(code(shown(name)) for name in origin.names)


def _several(items: Sequence[str], most: int, between: str) -> str:
    more = len(items) - most
    return between.join([*items[:most], *([f"{more} more"] if more > 0 else [])])


def _licences(resolution: Resolution, origins: Origins) -> list[str]:
    lines = ["## Licences", ""]
    if resolution.space:
        return [
            *lines,
            "A space records no licences: ask the contributors. What they noted is quoted",
            "above.",
        ]
    given = [] if origins.base is None else [("The base", origins.base)]
    given += [("", origins.of(source)) for source in resolution.contributions]
    if origins.models:
        given = [("", origin) for origin in origins.models]
    told = dict.fromkeys(
        f"* {_named(origin) or name}: {_stated(origin.licence)}"
        for name, origin in given[: LISTED_MAX + 1]
    )
    return [*lines, "As the folders state them:", "", *told]


def _stated(licence: Licence) -> str:
    words = [licence.identifier, licence.name, licence.link]
    parts = [" ".join(code(word) for word in words if word)] if any(words) else []
    if licence.files:
        parts += [f"see {' '.join(map(code, licence.files))} there"]
    return ", ".join(parts) or "none is stated"


def _digests(resolution: Resolution) -> list[str]:
    named = {
        "model digest": resolution.model_digest,
        "merge id": resolution.merge_id,
        "visible root": resolution.visible_root,
        "space": resolution.space,
        "base": resolution.base,
        "recipe": resolution.recipe.digest,
    }
    return [
        "## Digests",
        "",
        *(f"* {name}: `{value.hex()}`" for name, value in named.items() if value),
        f"* numeric contract: {resolution.contract}",
        f"* crdtmerge: {resolution.crdtmerge}",
        "",
        "`resolution.json` has those of each tensor.",
    ]


def _verifying(resolution: Resolution) -> list[str]:
    lines = ["## Verify", "", "```sh", "crdtmerge verify DIR", "```", ""]
    lines += ["computes the digest of every tensor in the folder again."]
    if resolution.space:
        lines += ["A member who has the contributions computes the tensors again, too."]
    return lines


def _loading(resolution: Resolution, config: ModelConfig | None) -> list[str]:
    lines = ["## Load", "", "```python"]
    if resolution.adapter:
        lines += ["from peft import PeftModel", ""]
        lines += [
            'model = PeftModel.from_pretrained(base, "DIR")  # base: a loaded model'
        ]
    elif config is not None:
        causal = config.architecture.endswith(_CAUSAL)
        loader = "AutoModelForCausalLM" if causal else "AutoModel"
        lines += [f"from transformers import {loader}", ""]
        lines += [f'model = {loader}.from_pretrained("DIR")']
    else:
        lines += [
            "from pathlib import Path",
            "",
            "from safetensors.torch import load_file",
        ]
        files = 'sorted(Path("DIR").glob("*.safetensors"))'
        lines += [
            "",
            f"tensors = {{k: t for f in {files} for k, t in load_file(f).items()}}",
        ]
    return [*lines, "```"]


def shown(name: str) -> str:
    """Return a model's name without the path to it, unless it is one on the Hub.

    A stack is called by all that it is made of, as "PATH[0:3] PATH[1:4]".
    """
    pieces = _PIECES.findall(name)
    if len(pieces) > 1 and " ".join(pieces) == name:
        return " ".join(map(shown, pieces))
    parts = name.split("+")
    return "+".join(p if HUB_NAME.fullmatch(p) else _last(p) for p in parts)


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or path


def code(text: str) -> str:
    """Return a text as a code span: what it holds is neither markup nor a link."""
    plain = "".join(c if c.isprintable() else " " for c in text).strip() or " "
    longest = max((len(run) for run in _TICKS.findall(plain)), default=0)
    fence = "`" * (longest + 1)
    inner = f" {plain} " if longest else plain
    return f"{fence}{inner}{fence}"
