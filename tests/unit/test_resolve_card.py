"""Model cards: what the Hub and people read, and nothing that others could smuggle in."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from crdtmerge.formats.companions import CARD_FILE
from crdtmerge.formats.licences import Licence
from crdtmerge.formats.model_config import ModelConfig
from crdtmerge.formats.recipe_file import parse_recipe, recipe_of
from crdtmerge.formats.yaml_text import parse_yaml
from crdtmerge.recipe import Rule
from crdtmerge.resolve.card import (
    LISTED_MAX,
    Origin,
    Origins,
    card_text,
    code,
    shown,
)
from crdtmerge.resolve.resolution import Adapted, Resolution
from crdtmerge.strategies import make_recipe
from tests.models import make_merge, resolve

EVIL = [
    "<script>alert(1)</script>",
    "](https://bad.example) **x** `tick` ``two``",
    "line\n---\n# Heading\n| a | b |\n",
    "`",
    "ends with a backslash\\",
    "\u202egnp.exe \x1b[31m red \x00",
    "---\nlicense: mit\n---",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Resolution:
    recipe = make_recipe("ties", {}, [Rule("scale", (("density", "0.1"),))], "BF16")
    return resolve(make_merge(), tmp_path_factory.mktemp("card") / "out", recipe)


def of_folders(made: Resolution, *licences: Licence) -> tuple[Resolution, Origins]:
    """Return a merge of folders; `licences` are those of the base and the models."""
    merged = replace(made, space=b"")
    names = ("org/base", "org/a", "/home/someone/models/b", "../c")
    licences = (*licences, *[Licence()] * (4 - len(licences)))
    base, *rest = (
        Origin((n,), (), own) for n, own in zip(names, licences, strict=True)
    )
    known: dict[bytes, Origin] = {
        c.content: o for c, o in zip(made.contributions, rest, strict=True)
    }
    return merged, Origins("", base, known)


def front_matter(card: bytes) -> dict[str, Any]:
    data: Any = ModelCard(card.decode()).data
    found: dict[str, Any] = data.to_dict()
    return found


def tokens(card: bytes) -> list[Any]:
    """Return what a reader of Markdown sees in the text below the front matter."""
    text = card.decode().split("\n---\n", 1)[1]
    found = MarkdownIt("commonmark", {"linkify": False}).enable("table").parse(text)
    return [t for token in found for t in (token, *(token.children or ()))]


def test_the_card_tells_what_the_resolution_tells(made: Resolution) -> None:
    """Recipe that reads back, digests, contributors with weights."""
    text = card_text(made, Origins("digits")).decode()
    assert front_matter(text.encode()) == {"tags": ["merge", "crdtmerge", "ties"]}
    recipe = text.split("```yaml\n")[1].split("```")[0]
    assert recipe_of(parse_recipe(parse_yaml(recipe))) == made.recipe
    for value in (made.model_digest, made.merge_id, made.visible_root, made.base):
        assert value.hex() in text
    for source in made.contributions:
        line = next(x for x in text.splitlines() if source.content.hex() in x)
        assert source.authors[0].hex() in line
    assert "weight 0.5" in text
    assert "crdtmerge verify DIR" in text


def test_what_others_wrote_is_never_markup(made: Resolution) -> None:
    """Notes, tags and the name of a space stand in code spans, whatever they hold."""
    plain = tokens(card_text(made, Origins("digits")))
    known: dict[bytes, Origin] = {
        made.contributions[0].content: Origin(notes=tuple(EVIL))
    }
    for space in EVIL:
        card = card_text(made, Origins(space, contributions=known))
        found = tokens(card)
        assert [
            t.type for t in found if t.type != "code_inline" and t.type != "text"
        ] == [t.type for t in plain if t.type != "code_inline" and t.type != "text"]
        spans = [t.content for t in found if t.type == "code_inline"]
        assert "<script>alert(1)</script>" in spans
        assert front_matter(card).keys() == {"tags"}
        assert all(c.isprintable() or c == "\n" for c in card.decode())
    for text in EVIL:
        (span,) = [
            t for t in tokens(b"\n---\n" + code(text).encode()) if t.nesting == 0
        ][1:]
        assert span.type == "code_inline"


def test_the_hub_reads_the_models_and_a_licence_that_all_share(
    made: Resolution,
) -> None:
    """Names that cannot be the Hub's are no base_model; paths are not told."""
    licence = Licence("apache-2.0")
    merged, origins = of_folders(made, *[licence] * 4)
    config = ModelConfig.parse(b'{"architectures": ["LlamaForCausalLM"]}')
    card = card_text(merged, origins, config)
    assert front_matter(card) == {
        "base_model": ["org/base", "org/a"],
        "library_name": "transformers",
        "license": "apache-2.0",
        "tags": ["merge", "crdtmerge", "ties"],
    }
    text = card.decode()
    assert "AutoModelForCausalLM.from_pretrained" in text
    assert "someone" not in text
    assert ".." not in text
    assert "* `b`, content" in text


@pytest.mark.parametrize(
    "others",
    [
        [Licence("mit")] * 3,
        [Licence("apache-2.0"), Licence("apache-2.0"), Licence()],
        [Licence("apache-2.0", "x")] * 3,
        [Licence("apache-2.0"), Licence(), Licence("apache-2.0")],
    ],
)
def test_licences_that_are_not_shared_are_listed_alone(
    made: Resolution, others: list[Licence]
) -> None:
    """The front matter claims none for a merge of which some part has another, or none."""
    merged, origins = of_folders(
        made, Licence("apache-2.0", files=("LICENSE",)), *others
    )
    card = card_text(merged, origins)
    assert "license" not in front_matter(card)
    text = card.decode()
    assert "* `org/base`: `apache-2.0`, see `LICENSE` there" in text
    assert ("none is stated" in text) == any(not stated for stated in others)


def test_a_licence_with_a_name_of_its_own_is_kept_whole(made: Resolution) -> None:
    """The Hub wants name and link beside `other`; a list of several is none."""
    licence = Licence("other", "llama3: special", "LICENSE")
    merged, origins = of_folders(made, *[licence] * 4)
    found = front_matter(card_text(merged, origins))
    assert found["license"] == "other"
    assert found["license_name"] == "llama3: special"
    several = of_folders(made, *[Licence("mit, bsd")] * 4)
    assert "license" not in front_matter(card_text(*several))


def test_an_adapters_card_is_for_peft(made: Resolution) -> None:
    """It tells how PEFT loads it."""
    adapter = replace(made, adapter=Adapted(4, made.tensors[0].blob))
    card = card_text(adapter, Origins("digits"))
    assert front_matter(card)["library_name"] == "peft"
    assert "PeftModel.from_pretrained" in card.decode()


def test_many_contributions_do_not_make_an_endless_card(made: Resolution) -> None:
    """The record has them all; the card says how many more there are."""
    source = made.contributions[0]
    authors = tuple(bytes([i]) * 32 for i in range(20))
    many = replace(made, contributions=(replace(source, authors=authors),) * 1000)
    text = card_text(many, Origins("s")).decode()
    assert f"and {1000 - LISTED_MAX} more" in text
    assert "12 more" in text
    assert len(text) < 1 << 20


def test_the_bases_card_is_not_the_merged_models(tmp_path: Path) -> None:
    """README.md of the base, in whatever case, is not kept."""
    files = {"readme.md": b"of the base", "LICENSE": b"keep", "config.json": b"{}"}
    resolve(make_merge(), tmp_path / "out", files=files)
    written = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert not {"readme.md"} & written.keys()
    assert b"of the base" not in written[CARD_FILE]
    assert written["LICENSE"] == b"keep"
    stated = json.loads(written["resolution.json"])
    assert stated["model_digest"].encode() in written[CARD_FILE]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../a", "a"),
        ("org/a", "org/a"),
        ("/x/org/a+../lora", "a+lora"),
        ("../a[0:3] ../b[1:4]", "a[0:3] b[1:4]"),
        ("/my models/a[0:3] org/b[1:4]", "a[0:3] b[1:4]"),
        ("../a[0:3]", "a[0:3]"),
        ("a folder/b c", "b c"),
    ],
)
def test_names_are_told_without_their_paths(name: str, said: str) -> None:
    """All models that a stack is made of are named, wherever they lie."""
    assert shown(name) == said
