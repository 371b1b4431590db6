"""Patterns of tensors, selectors of contributions, and values over depth."""

import re
import time
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.errors import BadInputError
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.rules import (
    Place,
    Who,
    check_tag,
    gradient_of,
    parse_pattern,
    parse_selector,
    places_of,
    value_at,
)

UNIT = 10**9
NAMES = [f"model.layers.{n}.mlp.weight" for n in range(12)]
OTHERS = ["model.embed.weight", "visual.blocks.0.weight", "visual.blocks.1.weight"]
PLACES = places_of([*NAMES, *OTHERS])


def fitting(pattern: str) -> list[str]:
    """Return which tensors a pattern fits, in order."""
    parsed = parse_pattern(pattern)
    return [name for name, place in PLACES.items() if parsed.fits(place)]


# --- places ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.3.mlp.weight", (3, 12)),
        ("visual.blocks.1.weight", (1, 2)),
        ("model.embed.weight", None),
    ],
)
def test_layers_are_counted_within_their_stack(
    name: str, layer: tuple[int, int] | None
) -> None:
    """Two stacks in one model do not lend each other their depth."""
    assert PLACES[name].layer == layer


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("h.2.attn.4.weight", (2, 3)),
        ("5.weight", (5, 6)),
        ("weight.7", (7, 8)),
        ("conv1.weight", None),
        ("a.1x.b", None),
        ("a.12345678.b", None),
        ("a.٣.b", None),
    ],
)
def test_the_first_whole_number_is_the_layer(
    name: str, layer: tuple[int, int] | None
) -> None:
    """Digits of ASCII alone: other digits change with Unicode's version."""
    assert places_of([name])[name].layer == layer


# --- patterns --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", [*NAMES, *OTHERS]),
        ("*.layers.1?.*", NAMES[10:]),
        ("model.layers.[01].mlp.weight", NAMES[:2]),
        ("MODEL.*", []),
        ("name:model.layers.1.mlp.weight", [NAMES[1]]),
        ("name:model.layers.*", []),
        ("regex:.*\\.[13]\\.mlp.*", [NAMES[1], NAMES[3]]),
        ("regex:model", []),
        ("regex:(?i)MODEL\\.embed.*", [OTHERS[0]]),
        ("layers:5", [NAMES[5]]),
        ("layers:0..1", [*NAMES[:2], *OTHERS[1:]]),
        ("layers:10..", NAMES[10:]),
        ("layers:..0", [NAMES[0], OTHERS[1]]),
        ("layers:-1", [NAMES[11], OTHERS[2]]),
        ("layers:-3..-2", [*NAMES[9:11], OTHERS[1]]),
        ("layers:1..-2", NAMES[1:11]),
        ("layers:0..1:*.blocks.*", OTHERS[1:]),
        ("layers:-1:name:visual.blocks.1.weight", [OTHERS[2]]),
        ("layers:2..3:regex:.*mlp.*", NAMES[2:4]),
    ],
)
def test_a_pattern_fits_what_it_says(pattern: str, expected: list[str]) -> None:
    assert fitting(pattern) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "name:",
        "regex:",
        "layers:",
        "layers:..",
        "layers:a",
        "layers:1-2",
        "layers:12345678",
        "layers:1..2..3",
        "layers:7..2",
        "layers:-1..-2",
        "layers:٣",
        "layers:1:layers:2:*",
        "layers:1:name:",
        "regex:(",
        "regex:(a)\\1",
        "regex:(?=a)",
        "regex:\udcff",
        "regex:((a{100}){100}){100}",
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    """Above all a range written with a dash, which is not layer 1."""
    with pytest.raises(BadInputError):
        parse_pattern(pattern)


@pytest.mark.parametrize("glob", ["[", "[]", "[z-a]", "[!", "[[]", "\\", "[a&&b]"])
def test_no_shell_pattern_is_an_error(glob: str) -> None:
    """A peer's pattern may be nonsense; it then fits little, and raises nothing."""
    assert parse_pattern(glob).fits(Place("[")) in {True, False}


@pytest.mark.parametrize(
    "pattern", ["regex:(a*)*b", "regex:(a|aa)+b", "regex:(x+x+)+y", "*a" * 120 + "b"]
)
def test_no_pattern_of_a_peer_takes_long(pattern: str) -> None:
    """What takes time exponential in a name's length elsewhere is quick here."""
    name = "a" * 20_000
    begun = time.thread_time()  # a clock would count what else the machine does
    assert not parse_pattern(pattern).fits(Place(name))
    assert time.thread_time() - begun < 1


def test_patterns_that_are_large_for_re2_are_refused() -> None:
    """What an expression may take is bounded: 256 of them cannot fill the memory."""
    with pytest.raises(BadInputError, match="cannot be used"):
        parse_pattern("regex:" + "(.{1,50}){1,20}" * 14)


# --- selectors -------------------------------------------------------------------------

WHO = Who(b"c" * 32, (b"a" * 32, b"b" * 32), ("math", "v1.2"))


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        (f"content:{WHO.content.hex()}", True),
        (f"content:{(b'a' * 32).hex()}", False),
        (f"author:{(b'b' * 32).hex()}", True),
        (f"author:{WHO.content.hex()}", False),
        ("tag:math", True),
        ("tag:v1.2", True),
        ("tag:Math", False),
        ("tag:mat", False),
    ],
)
def test_a_selector_fits_whom_it_names(selector: str, *, fits: bool) -> None:
    assert parse_selector(selector).fits(WHO) is fits


@pytest.mark.parametrize(
    "selector", ["", "math", "tag:", "tag:a b", "content:abcd", "author:" + "A" * 64]
)
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(BadInputError):
        parse_selector(selector)


@pytest.mark.parametrize("tag", ["", ".a", "a b", "ä", "a" * 65, "a\n", "a=b", "a:b"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(BadInputError):
        check_tag(tag)


# --- gradients -------------------------------------------------------------------------

ANCHORS = st.lists(st.integers(-(10**12), 10**12), min_size=2, max_size=9)


def units(text: str) -> int:
    return int(Fraction(text) * UNIT)


@given(ANCHORS, st.integers(1, 200))
def test_a_gradient_begins_and_ends_at_its_ends(anchors: list[int], count: int) -> None:
    """The first layer has the first value, the last layer the last."""
    assert units(value_at(anchors, (0, count))) == anchors[0]
    if count > 1:
        assert units(value_at(anchors, (count - 1, count))) == anchors[-1]


@given(ANCHORS, st.integers(2, 60))
def test_a_gradient_that_rises_never_falls(anchors: list[int], count: int) -> None:
    rising = sorted(anchors)
    found = [units(value_at(rising, (n, count))) for n in range(count)]
    assert found == sorted(found)


@given(ANCHORS, st.integers(1, 9), st.data())
def test_a_gradient_passes_through_its_anchors(
    anchors: list[int], between: int, data: st.DataObject
) -> None:
    """With whole numbers of layers between anchors, each is met exactly."""
    count = between * (len(anchors) - 1) + 1
    i = data.draw(st.integers(0, len(anchors) - 1))
    assert units(value_at(anchors, (i * between, count))) == anchors[i]


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_values_between_two_anchors_lie_on_a_line(a: int, b: int) -> None:
    """Rounded to 9 places, half-even: the oracle is Python's own rational rounding."""
    for n in range(8):
        expected = round(Fraction(a * (7 - n) + b * n, 7))
        assert units(value_at([a, b], (n, 8))) == expected


@pytest.mark.parametrize("text", ["1,", ",1", "1,,2", "1, 2", "1,x", "1,2.0", "," * 70])
def test_what_is_no_gradient_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        gradient_of(text)


def test_a_text_without_commas_is_no_gradient() -> None:
    assert gradient_of("0.5") is None


# --- what rules come to ----------------------------------------------------------------

MATH, TEXT = Who(b"m" * 32, (), ("math",)), Who(b"t" * 32, (), ("text",))


def test_rules_by_tensor_depth_and_tag_together() -> None:
    """Later goes over earlier, for whom and where it is meant."""
    recipe = Recipe(
        "ties/1",
        (("density", "0.2"),),
        (
            Rule("layers:..5", (("density", "0.5"),)),
            Rule("*", (("weight", "2"),), "tag:math"),
            Rule("layers:0..2", (("weight", "0,1"),), "tag:math"),
            Rule("*.mlp.*", (("density", "1"),), "tag:text"),
        ),
    )
    found = recipe.setting(PLACES[NAMES[0]], [MATH, TEXT])
    assert found.parameters == (("density", "0.5"),)
    assert found.weights == (0, None)
    assert found.own == ((), (("density", "1"),))
    found = recipe.setting(PLACES[NAMES[8]], [MATH, TEXT])
    assert found.parameters == (("density", "0.2"),)
    assert found.weights == (2 * UNIT, None)
    # A gradient gives nothing where there is no layer.
    found = recipe.setting(PLACES["model.embed.weight"], [MATH, TEXT])
    assert found.weights == (2 * UNIT, None)
    assert found.own == ((), ())


def test_the_merge_id_covers_who_is_chosen_and_nothing_else_of_tags() -> None:
    """Content ids are in the root already; tags that no rule uses do not count."""
    plain = Recipe("linear/1", (("normalize", "true"),))
    by_content = replace(
        plain, rules=(Rule("*", (("weight", "2"),), f"content:{MATH.content.hex()}"),)
    )
    by_tag = replace(plain, rules=(Rule("*", (("weight", "2"),), "tag:math"),))

    def ids(recipe: Recipe, *who: Who) -> str:
        return recipe.merge_id(b"b" * 32, b"r" * 32, who).hex()

    extra = replace(MATH, tags=("code", "math"), authors=(b"x" * 32,))
    other = replace(TEXT, tags=("math",))
    assert ids(plain, MATH, TEXT) == ids(plain, extra, other)
    assert ids(by_content, MATH, TEXT) == ids(by_content, extra, other)
    assert ids(by_tag, MATH, TEXT) == ids(by_tag, TEXT, extra)
    assert ids(by_tag, MATH, TEXT) != ids(by_tag, MATH, other)
    assert re.fullmatch("[0-9a-f]{64}", ids(by_tag, MATH))
