"""Strategies of other packages: found, tried, refused without harm to any other."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.main import get_command

from crdtmerge import numerics
from crdtmerge.errors import (
    BadInputError,
    PluginError,
    UnknownNameError,
    UpgradeNeededError,
)
from crdtmerge.formats.mergekit_methods import find_method, method_names
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.plan import make_plan
from crdtmerge.strategies import (
    STRATEGIES,
    Inputs,
    check_recipe,
    find,
    make_recipe,
    plugins,
    whole_of,
)
from crdtmerge.strategies.trials import TRIALS, trial_digest
from nodes.cli import completion
from nodes.cli.app import build
from tests.models import SHAPES, contribution, describe, make_tensors
from tests.models import Blobs as TensorBlobs
from tests.plugins import HEAD, install
from tests.unit.test_operations import Setting, setting

__all__ = ["setting"]

GOOD = "acme.largest/1"
GOOD_TRIALS = "ab27a455fb3998e617a932a9759511241a7426183efd5464b07326bed26cfb8d"
BEST_TRIALS = "6c07d2691ad47b29ea94696ef7856850e57cb05c9c2f2aafc828d01f935296a7"
LINEAR_TRIALS = "03555f050b03db3002c155adbe596dcd4fd85014732cee9e8f24de053bbbd11c"
ENTRY = {"acme.largest-1": "PLUGIN"}
PLATFORM = 'PLUGIN = Plugin(strategy(classification="platform"))'

Install = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install distributions for one test: real files, found by importlib.metadata."""
    folder = tmp_path / "site"
    before = set(sys.modules)

    def put(
        source: str, entries: Mapping[str, str] = ENTRY, package: str = "acme-blend"
    ) -> None:
        install(folder, package, entries, source)
        monkeypatch.syspath_prepend(folder)
        _forget()

    _forget()
    yield put
    _forget()
    for name in set(sys.modules) - before:
        if name.startswith("acme"):
            del sys.modules[name]


def _forget() -> None:
    plugins._found.cache_clear()
    plugins._entries.cache_clear()
    plugins._tried.cache_clear()


def good(
    digest: str = GOOD_TRIALS,
) -> str:
    return f'PLUGIN = Plugin(strategy(), "{digest}")'


def test_a_plug_in_merges_like_one_of_ours(installed: Install) -> None:
    """Through recipe, plan and execution: the largest of each item, in every dtype."""
    installed(good())
    blobs, base = TensorBlobs(), make_tensors(0)
    tunes = [make_tensors(i, base) for i in (1, 2, 3)]
    manifest = describe(base, blobs)
    made = [contribution(tune, blobs, manifest) for tune in tunes]
    recipe = make_recipe("acme.largest", {})
    assert recipe.strategy == GOOD
    assert check_recipe(recipe) is find(GOOD)
    held: dict[str, bytes] = {}

    class Sink:
        def write(self, name: str, data: bytes | memoryview, offset: int = 0) -> None:
            held[name] = held.get(name, b"")[:offset] + bytes(data)

    execute(make_plan(recipe, manifest, made), blobs, Sink(), executor=None, threads=1)
    for name, (dtype, _) in SHAPES.items():
        if dtype == "I64":
            assert held[name] == base[name]
            continue
        items = [numerics.upcast(tune[name], dtype) for tune in tunes]
        expected = np.array([max(column) for column in zip(*items, strict=True)])
        assert held[name] == numerics.downcast(expected, dtype)


def test_a_plug_in_is_a_merge_method_of_configurations(installed: Install) -> None:
    """With its own words, beside those of mergekit and ours."""
    installed(good())
    assert "acme.largest" in method_names()
    assert find_method("acme.largest").strategy == GOOD


def test_a_plug_in_is_imported_only_when_it_is_wanted(installed: Install) -> None:
    """Ours are found, recipes of ours checked and names completed without it."""
    installed("raise RuntimeError('imported')")
    assert find("ties").name == "ties"
    assert check_recipe(make_recipe("linear", {})).name == "linear"
    context = typer.Context(get_command(build()))
    assert completion.strategies(context, "acme") == ["acme.largest"]
    assert "acme_blend" not in sys.modules
    with pytest.raises(UnknownNameError, match=r"no strategy .acme\.other") as found:
        find("acme.other")
    assert GOOD in found.value.hint
    assert "acme_blend" not in sys.modules
    with pytest.raises(PluginError, match="RuntimeError: imported"):
        find("acme.largest")


REFUSED = {
    "wrong digest": (
        good("0" * 64),
        "its trials give ab27a455fb39, not the 000000000000",
    ),
    "no digest": ("PLUGIN = Plugin(strategy())", "declares no digest"),
    "import fails": ("raise OSError('no\\nluck')", "OSError: no luck"),
    "import exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "names nothing": ("", "AttributeError: .*PLUGIN"),
    "names a strategy": ("PLUGIN = strategy()", "is no Plugin with a Strategy"),
    "another name": (
        'PLUGIN = Plugin(strategy(name="acme.least"))',
        "acme_blend:PLUGIN is acme.least/1",
    ),
    "takes one of ours": (
        'PLUGIN = Plugin(strategy(name="ties"))',
        "acme_blend:PLUGIN is ties/1",
    ),
    "alias": ('PLUGIN = Plugin(strategy(aliases=("ties",)))', "it has aliases"),
    "order shows": (
        "PLUGIN = Plugin(strategy(lambda i: bytes(np.asarray(i.contributions[0]).data)))",
        "depends on the order of the contributions",
    ),
    "too short": (
        "PLUGIN = Plugin(strategy(lambda i: b''))",
        "gives 0 bytes where 532",
    ),
    "not finite": (
        """
def emit(inputs):
    return b"\\xff" * memoryview(inputs.contributions[-1]).nbytes
PLUGIN = Plugin(strategy(emit))
""",
        "makes NaN or infinity",
    ),
    "refuses all": (
        """
from crdtmerge.errors import ContractError
def emit(inputs):
    raise ContractError("no")
PLUGIN = Plugin(strategy(emit))
""",
        "refuses every trial",
    ),
    "raises": ("PLUGIN = Plugin(strategy(lambda i: 1 / 0))", "ZeroDivisionError"),
    "bad default": (
        """
P = Parameter("t", "decimal", "0.50", None, "help", maximum=10**9)
PLUGIN = Plugin(strategy(parameters=(P,)))
""",
        "cannot have t='0.50'",
    ),
    "platform with digest": (
        'PLUGIN = Plugin(strategy(classification="platform"), "0" * 64)',
        "class platform declares no digest",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_plug_in_is_refused_by_the_name_of_its_package(
    installed: Install, case: str
) -> None:
    """Whatever is wrong with it: everywhere the same reason, and all others work."""
    source, reason = REFUSED[case]
    installed(source)
    installed(
        f'PLUGIN = Plugin(strategy(name="acme.best"), "{BEST_TRIALS}")',
        {"acme.best-1": "PLUGIN"},
        "acme-best",
    )
    with pytest.raises(PluginError, match=reason) as found:
        find(GOOD)
    assert "acme.largest/1 of acme-blend 1.2 is refused" in str(found.value)
    assert "\n" not in str(found.value)
    with pytest.raises(PluginError, match=reason):
        check_recipe(Recipe(GOOD))
    best, bad = plugins.listed()
    assert (best.strategy, best.reason) == (find("acme.best"), "")
    assert (bad.full_name, bad.package, bad.strategy) == (GOOD, "acme-blend 1.2", None)
    assert find("ties").name == "ties"


@pytest.mark.parametrize(
    "name", ["ties", "largest-1", "acme.largest", "Acme.x-1", "a.b-0", "acme.largest/1"]
)
def test_entry_points_have_a_dot_and_a_version(installed: Install, name: str) -> None:
    """So none can be taken for one of ours; a badly named one is listed, as refused."""
    installed(good(), {name: "PLUGIN"})
    (listed,) = plugins.listed()
    assert listed.full_name == name
    assert "not named like acme.blend-1" in listed.reason
    assert plugins.installed() == ()
    assert find("ties") is STRATEGIES["ties/1"]


def test_two_packages_with_one_strategy_are_both_refused(installed: Install) -> None:
    """Which one were meant nobody could say."""
    installed(good())
    installed(good(), package="acme-other")
    with pytest.raises(PluginError, match="several packages") as found:
        find("acme.largest")
    assert "acme-blend 1.2" in str(found.value)
    assert "acme-other 1.2" in str(found.value)


def test_the_newest_version_is_meant_without_one(installed: Install) -> None:
    """As numbers, not as text; a recipe names the one it wants."""
    source = (
        "from dataclasses import replace\n"
        "from crdtmerge.strategies.trials import trial_digest\n"
        "def of(n):\n"
        "    made = replace(strategy(), version=n)\n"
        "    return Plugin(made, trial_digest(made))\n"
        "P2, P10 = of(2), of(10)\n"
    )
    installed(source, {"acme.largest-2": "P2", "acme.largest-10": "P10"})
    assert find("acme.largest").version == 10
    assert find("acme.largest/2").version == 2
    with pytest.raises(UnknownNameError):
        find("acme.largest/1")


def test_a_recipe_of_a_package_that_is_not_here_says_so(installed: Install) -> None:
    """It is no fault of the recipe: install it, or explore with another strategy."""
    installed(good())
    with pytest.raises(
        UpgradeNeededError, match=r"brings the strategy .other\.x/3"
    ) as e:
        check_recipe(Recipe("other.x/3"))
    assert "install the package of 'other'" in e.value.hint
    assert "resolve --strategy" in e.value.hint
    with pytest.raises(UpgradeNeededError, match="is not known here") as e:
        check_recipe(Recipe("later/1"))
    assert "upgrade crdtmerge" in e.value.hint


def test_class_platform_is_explored_and_never_shared(
    installed: Install, setting: Setting
) -> None:
    """A space would not have one model; here it may be tried, with a note."""
    installed(PLATFORM)
    setting.contribute(0)
    for verb, more in (
        ("recipe_set", {}),
        ("space_create", {"name": "other", "base": setting.base}),
    ):
        with pytest.raises(BadInputError, match="class platform") as found:
            setting.call(verb, strategy="acme.largest", **more)
        assert "resolve --strategy" in found.value.hint
    out = setting.folder / "out"
    made = setting.call("resolve", out=out, strategy="acme.largest")
    assert made["explored"]
    assert "another machine" in made["notes"][0]
    assert setting.call("resolve", out=setting.folder / "shared")["notes"] == []


def test_a_space_outlives_the_package_of_its_recipe(
    installed: Install, setting: Setting, tmp_path: Path
) -> None:
    """Only resolve needs the strategy; with the package it merges as before."""
    installed(good())
    setting.contribute(0)
    setting.call("recipe_set", strategy="acme.largest")
    made = setting.call("resolve", out=setting.folder / "first")
    (tmp_path / "site").rename(tmp_path / "elsewhere")
    _forget()
    setting.contribute(1)
    assert setting.call("recipe_show")["recipe"]["strategy"] == GOOD
    with pytest.raises(UpgradeNeededError, match=r"brings the strategy .acme\.largest"):
        setting.call("resolve", out=setting.folder / "second")
    assert not (setting.folder / "second").exists()
    setting.call("resolve", out=setting.folder / "explored", strategy="linear")
    (tmp_path / "elsewhere").rename(tmp_path / "site")
    _forget()
    again = setting.call("resolve", out=setting.folder / "second")
    assert again["merge_id"] != made["merge_id"]


def test_a_shared_recipe_of_class_platform_is_not_resolved(
    installed: Install, setting: Setting, tmp_path: Path
) -> None:
    """Wherever it came from: here the package declares another class than at the peer's."""
    installed(good())
    setting.contribute(0)
    setting.call("recipe_set", strategy="acme.largest")
    module = tmp_path / "site" / "acme_blend.py"
    module.write_text(HEAD + PLATFORM)
    del sys.modules["acme_blend"]
    importlib.invalidate_caches()
    _forget()
    with pytest.raises(BadInputError, match="class platform"):
        setting.call("resolve", out=setting.folder / "shared")
    explored = {"out": setting.folder / "explored", "strategy": GOOD}
    assert "another machine" in setting.call("resolve", **explored)["notes"][0]


def test_the_program_lists_and_measures_plug_ins(tmp_path: Path) -> None:
    """In a process of its own, where nothing but the path says what is installed."""
    install(tmp_path, "acme-blend", ENTRY, good())
    install(tmp_path, "acme-bad", {"acme.bad-1": "PLUGIN"}, good("0" * 64))
    found = _program(tmp_path, "strategies", "--json")
    facts = {item["full_name"]: item for item in json.loads(found)}
    assert facts[GOOD]["package"] == "acme-blend 1.2"
    assert facts[GOOD]["refused"] is None
    assert "acme_bad:PLUGIN is acme.largest/1" in facts["acme.bad/1"]["refused"]
    assert facts["ties/1"]["package"] is None
    shown = _program(tmp_path, "strategies")
    assert "of other packages:\nacme.largest/1 " in shown
    assert "refused:\nacme.bad/1 of acme-bad 1.2: " in shown
    assert "of acme-blend 1.2" in _program(tmp_path, "strategies", "acme.largest")
    assert _program(tmp_path, "strategies", GOOD, "--digest") == f"{GOOD_TRIALS}\n"


def _program(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "nodes.cli", *words]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_digest_is_told_though_the_declared_one_is_wrong(installed: Install) -> None:
    """That is how authors get it; what does not run at all has none."""
    installed(good("0" * 64))
    assert plugins.digest_of(GOOD) == GOOD_TRIALS
    installed("1 / 0", {"acme.bad-1": "PLUGIN"}, "acme-bad")
    with pytest.raises(PluginError, match=r"acme\.bad/1 of acme-bad 1\.2 is refused"):
        plugins.digest_of("acme.bad/1")


def test_the_trials_never_change() -> None:
    """Else every plug-in that was ever published would be refused."""
    assert trial_digest(STRATEGIES["linear/1"]) == LINEAR_TRIALS


@pytest.mark.parametrize("trial", range(len(TRIALS)))
def test_one_bit_of_any_trial_changes_the_digest(trial: int) -> None:
    """The digest is over all bytes of all trials."""
    linear = STRATEGIES["linear/1"]
    wanted = TRIALS[trial]

    def emit(inputs: Inputs) -> bytes:
        output = bytearray(whole_of(linear.emit(inputs)))
        is_last = (inputs.dtype, inputs.shape) == wanted.tensors[-1]
        is_tau = any(isinstance(g, np.ndarray) for g in inputs.contributions)
        if (
            is_last
            and sorted(inputs.weights) == sorted(wanted.weights)
            and (inputs.base is not None, is_tau) == (wanted.on_base, wanted.as_tau)
        ):
            output[-8] ^= 1
        return bytes(output)

    assert trial_digest(replace(linear, emit=emit)) != LINEAR_TRIALS
