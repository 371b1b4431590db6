"""Names, parameters, defaults: what users may write and peers may send."""

import json
from dataclasses import replace

import pytest

from crdtmerge.errors import BadInputError, UnknownNameError, UpgradeNeededError
from crdtmerge.recipe import EXPRESSIONS_MAX, RULES_MAX, Recipe, Rule, recipe_from_value
from crdtmerge.rules import Place
from crdtmerge.strategies import (
    STRATEGIES,
    Parameter,
    check_recipe,
    find,
    has_reduce,
    make_recipe,
    parse_weight,
)

UNIT = 10**9


def test_the_table_is_keyed_by_versioned_names() -> None:
    """Keys are what recipes carry, and no name or alias means two strategies."""
    assert list(STRATEGIES) == [s.full_name for s in STRATEGIES.values()]
    assert list(STRATEGIES) == sorted(STRATEGIES)
    assert {s.name for s in STRATEGIES.values()} == {
        "ada_merging",
        "adarank",
        "aoe",
        "arcee_fusion",
        "bmm",
        "breadcrumbs",
        "breadcrumbs_ties",
        "bulyan",
        "cabs",
        "centered_clip",
        "consensus",
        "dam",
        "dare_linear",
        "dare_ties",
        "dc_merge",
        "della",
        "della_linear",
        "doge",
        "drm",
        "dual_projection",
        "emr",
        "fisher",
        "geometric_median",
        "iso_c",
        "iso_cts",
        "karcher",
        "knots",
        "krum",
        "layer_swap",
        "led_merge",
        "linear",
        "lm_cocktail",
        "lore",
        "lot",
        "magmax",
        "mats",
        "median",
        "metagpt",
        "model_stock",
        "multi_krum",
        "multislerp",
        "mwa",
        "nearswap",
        "negative_merge",
        "nuslerp",
        "opcm",
        "optmerge",
        "ota_ffg",
        "passthrough",
        "pcb",
        "pma",
        "ram",
        "ramplus_tl",
        "regmean",
        "regmean_pp",
        "representation_surgery",
        "safe_merge",
        "sce",
        "slerp",
        "soce",
        "split_unlearn_merge",
        "star",
        "stf",
        "task_arithmetic",
        "ties",
        "trimmed_mean",
        "tsv_m",
        "ubgm",
        "weight_scope_alignment",
        "widen",
        "wsm",
        "wudi",
    }
    names = [n for s in STRATEGIES.values() for n in (s.name, *s.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("ties", "ties/1"),
        ("ties/1", "ties/1"),
        ("weight_average", "linear/1"),
        ("soup", "linear/1"),
        ("soup/1", "linear/1"),
        ("dare", "dare_linear/1"),
    ],
)
def test_a_strategy_is_found_by_name_version_or_alias(asked: str, found: str) -> None:
    assert find(asked).full_name == found


@pytest.mark.parametrize(
    ("asked", "near"),
    [("tise", "'ties'"), ("dare-ties", "'dare_ties'"), ("ties/2", "'ties/1'")],
)
def test_an_unknown_strategy_gets_a_suggestion_and_the_list(
    asked: str, near: str
) -> None:
    """The hint names the nearest and all."""
    with pytest.raises(UnknownNameError, match="no strategy") as caught:
        find(asked)
    assert near in caught.value.hint
    assert ", ".join(STRATEGIES) in caught.value.hint


def test_what_is_far_from_all_names_gets_the_list_alone() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find("xyzzy")
    assert caught.value.hint.startswith("known: ")


def test_a_recipe_is_complete() -> None:
    """Defaults are written out, so a later default changes no old recipe."""
    assert make_recipe("ties", {}) == Recipe(
        "ties/1", (("density", "0.2"), ("lambda", "1"), ("normalize", "true"))
    )
    assert dict(make_recipe("dare_ties", {"p": "0.5"}).parameters) == {
        "p": "0.5",
        "lambda": "1",
        "normalize": "false",
        "rescale": "paper",
    }


@pytest.mark.parametrize("text", [".2", "0.20", "+0.2", "00.2", "0.2000000000000"])
def test_spellings_of_a_number_become_one(text: str) -> None:
    """Equal recipes have equal digests however they were typed."""
    recipe = make_recipe("ties", {"density": text})
    assert recipe.digest == make_recipe("ties", {"density": "0.2"}).digest


@pytest.mark.parametrize(
    ("text", "flag"), [("TRUE", "true"), ("no", "false"), ("1", "true")]
)
def test_spellings_of_a_flag_become_one(text: str, flag: str) -> None:
    assert dict(make_recipe("linear", {"normalize": text}).parameters) == {
        "normalize": flag
    }


@pytest.mark.parametrize("text", ["l1", "L1"])
def test_a_choice_is_one_of_its_texts(text: str) -> None:
    recipe = make_recipe("dare_ties", {"rescale": text})
    assert dict(recipe.parameters)["rescale"] == "l1"
    with pytest.raises(BadInputError, match="is not paper or l1 or none"):
        make_recipe("dare_ties", {"rescale": "l2"})
    shouted = replace(recipe, parameters=(*recipe.parameters[:-1], ("rescale", "L1")))
    with pytest.raises(BadInputError, match="canonical"):
        check_recipe(shouted)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"density": "1.1"}, "is not a number, 0 to 1"),
        ({"density": "-0.1"}, "is not a number, 0 to 1"),
        ({"density": "2e-1"}, "is not a number, 0 to 1"),
        ({"density": "nan"}, "is not a number, 0 to 1"),
        ({"density": ""}, "is not a number, 0 to 1"),
        ({"density": "."}, "is not a number, 0 to 1"),
        ({"density": "0.1234567891"}, "is not a number, 0 to 1"),
        ({"density": "\u0663"}, "is not a number, 0 to 1"),
        ({"lambda": "1" * 30}, "is not a number, 0 to 100"),
        ({"normalize": "maybe"}, "is not true or false"),
    ],
)
def test_a_value_outside_its_range_is_refused(
    parameters: dict[str, str], reason: str
) -> None:
    """The message states what was given and what is accepted."""
    with pytest.raises(BadInputError, match=reason):
        make_recipe("ties", parameters)


def test_an_exponent_is_refused_with_advice() -> None:
    with pytest.raises(BadInputError) as caught:
        make_recipe("ties", {"density": "2e-1"})
    assert "without an exponent" in caught.value.hint


def test_p_of_one_would_drop_everything() -> None:
    """1 / (1 - p) must exist."""
    make_recipe("dare_ties", {"p": "0.999999999"})
    with pytest.raises(BadInputError, match=r"0 to 0\.999999999"):
        make_recipe("dare_ties", {"p": "1"})


def test_an_unknown_parameter_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="no parameter 'densty'") as caught:
        make_recipe("ties", {"densty": "0.2"})
    assert "'density'" in caught.value.hint


def test_rules_hold_only_what_they_change() -> None:
    """A rule overrides by tensor; what it leaves out stays."""
    recipe = make_recipe("ties", {}, rules=[Rule("*.bias", (("density", "1.0"),))])
    assert recipe.rules == (Rule("*.bias", (("density", "1"),)),)
    assert dict(recipe.parameters_for(Place("a.bias")))["density"] == "1"
    assert dict(recipe.parameters_for(Place("a.weight")))["density"] == "0.2"
    with pytest.raises(UnknownNameError):
        make_recipe("ties", {}, rules=[Rule("*", (("p", "0.1"),))])
    with pytest.raises(BadInputError, match="pattern"):
        make_recipe("ties", {}, rules=[Rule("", ())])


@pytest.mark.parametrize(
    ("dtype", "scope", "reason"),
    [("FP8", "set", "output dtype"), ("BF16", "global", "seed scope")],
)
def test_unknown_choices_are_refused(dtype: str, scope: str, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        make_recipe("ties", {}, output_dtype=dtype, seed_scope=scope)


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_is_made_here_is_accepted_there(name: str) -> None:
    """A made recipe passes the wire form and the check of a peer."""
    recipe = make_recipe(name, {}, [Rule("*", ())], "BF16", "contribution")
    assert check_recipe(recipe_from_value(recipe.to_value())) is STRATEGIES[name]


@pytest.mark.parametrize("name", ["ties/2", "ties", "soup", "new/1"])
def test_a_strategy_of_a_newer_version_asks_for_an_upgrade(name: str) -> None:
    """A peer's recipe names versions exactly; what is not known is not guessed."""
    with pytest.raises(UpgradeNeededError, match="not known here"):
        check_recipe(replace(make_recipe("ties", {}), strategy=name))


GOOD = make_recipe("ties", {})


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, parameters=GOOD.parameters[1:]),
        replace(GOOD, parameters=(*GOOD.parameters, ("zeta", "1"))),
        replace(GOOD, parameters=(("density", "0.20"), *GOOD.parameters[1:])),
        replace(GOOD, parameters=(("density", "7"), *GOOD.parameters[1:])),
        replace(GOOD, parameters=(*GOOD.parameters[:2], ("normalize", "yes"))),
        replace(GOOD, rules=(Rule("*", (("density", "-0"),)),)),
        replace(GOOD, output_dtype="I8"),
        replace(GOOD, seed_scope=""),
        replace(GOOD, rules=(Rule("*", ()),) * (RULES_MAX + 1)),
        replace(GOOD, rules=(Rule("regex:a", ()),) * (EXPRESSIONS_MAX + 1)),
        replace(GOOD, rules=(Rule("layers:1:regex:a", ()),) * (EXPRESSIONS_MAX + 1)),
    ],
)
def test_a_recipe_that_no_honest_peer_makes_is_refused(bad: Recipe) -> None:
    """Missing, unknown, not canonical or out of range: refused before any work."""
    with pytest.raises(BadInputError):
        check_recipe(bad)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_description_is_plain_json(name: str) -> None:
    """The command line prints it as it is, with our defaults and mergekit's."""
    described = STRATEGIES[name].describe()
    assert json.loads(json.dumps(described)) == described
    assert {"name", "aliases", "class", "parameters", "draws"} <= described.keys()
    assert described["class"] == "portable"


def test_our_defaults_and_mergekits_are_both_told() -> None:
    """Density is 0.2 here, as in the paper, and 1 in mergekit."""
    density = STRATEGIES["ties/1"].parameter("density")
    assert density is not None
    assert (density.default, density.mergekit_default) == ("0.2", "1")
    assert density.describe()["range"] == ["0", "1"]
    rescale = STRATEGIES["dare_linear/1"].parameter("rescale")
    assert rescale is not None
    assert (rescale.default, rescale.mergekit_default) == ("paper", "l1")
    assert rescale.describe()["range"] == ["paper", "l1", "none"]


def test_only_some_parameters_may_differ_between_contributions() -> None:
    """Densities and scales as in mergekit; and what a contribution is to the others."""
    own = {
        (s.name, p.name)
        for s in STRATEGIES.values()
        for p in s.parameters
        if p.per_model
    }
    assert own == {
        ("aoe", "main"),
        ("breadcrumbs", "density"),
        ("breadcrumbs", "gamma"),
        ("breadcrumbs_ties", "density"),
        ("breadcrumbs_ties", "gamma"),
        ("dare_linear", "p"),
        ("dare_ties", "p"),
        ("della", "density"),
        ("della", "epsilon"),
        ("della_linear", "density"),
        ("della_linear", "epsilon"),
        ("knots", "density"),
        ("knots", "p"),
        ("layer_swap", "part"),
        ("led_merge", "density"),
        ("negative_merge", "forget"),
        ("ota_ffg", "density"),
        ("passthrough", "scale"),
        ("passthrough", "select"),
        ("pma", "step"),
        ("safe_merge", "safety"),
        ("split_unlearn_merge", "forget"),
        ("ties", "density"),
        ("wsm", "step"),
    }


@pytest.mark.parametrize(("text", "units"), [("1", UNIT), (".5", UNIT // 2), ("0", 0)])
def test_weights_are_parsed_to_units(text: str, units: int) -> None:
    assert parse_weight(text) == units


@pytest.mark.parametrize("text", ["-1", "1001", "1e3", "x"])
def test_weights_outside_the_range_are_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="weight"):
        parse_weight(text)


@pytest.mark.parametrize(
    "anchors", [["0.1"] * 65, ["0.123456789"] * 32], ids=["many", "long"]
)
def test_a_gradient_that_no_record_can_carry_is_refused(anchors: list[str]) -> None:
    """At once, not when the space resolves, or when a model is verified."""
    with pytest.raises(BadInputError, match="at most 64 values in 256"):
        make_recipe("ties", {"density": ",".join(anchors)})
    recipe = make_recipe("ties", {"density": ",".join(anchors[:20])})
    assert recipe_from_value(recipe.to_value()) == recipe


def test_a_rule_for_all_tensors_may_turn_a_reduce_on_and_off() -> None:
    """What holds for the whole model tells, whichever way it was given."""
    switch = Parameter("whole", "flag", "false", None, "reduce", whole=True)
    strategy = replace(
        find("metagpt"), parameters=(switch,), reduces=lambda v: v.flag("whole")
    )
    off = Recipe("metagpt/1", (("whole", "false"),))
    on = replace(off, rules=(Rule("*", (("whole", "true"),)),))
    assert (has_reduce(strategy, off), has_reduce(strategy, on)) == (False, True)
