"""Strategies of other packages: found by entry point, tried once, then as good as ours.

Owns the entry point group, what a plug-in must be, and its refusal. Does not own the
trials (`trials`), nor our own table (`table`): a plug-in's name has a dot, ours never do,
so none can take the place of another.

Installed packages are looked through when a name is not ours or all are listed. A plug-in
is imported and tried when it is wanted, once in a process; one that fails is refused with
its package's name and touches no other.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from crdtmerge.errors import PluginError
from crdtmerge.recipe import Parameters
from crdtmerge.strategies.base import Strategy
from crdtmerge.strategies.trials import trial_digest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "crdtmerge.strategies"
"""Its entry points name a `Plugin` each; `acme.blend-1` is the one of `acme.blend/1`."""

REASON_CHARACTERS_MAX: Final = 300

_MISNAMED: Final = (
    "its entry point is not named like acme.blend-1 (a name with a dot, a version)"
)
_ENTRY: Final = re.compile(r"([a-z0-9_]+(?:\.[a-z0-9_]+)+)-([1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True)
class Plugin:
    """What an entry point names: a strategy, and the digest that its trials must give.

    `digest` is what `crdtmerge strategies NAME --digest` prints; that of a strategy of
    class `platform` is empty, since its bytes are not the same everywhere. `parameters`
    are set in trials, for a strategy that does not run on its defaults.
    """

    strategy: Strategy
    digest: str = ""
    parameters: Parameters = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """One plug-in that is installed: its strategy, or why it is refused."""

    full_name: str
    package: str
    strategy: Strategy | None = None
    reason: str = ""

    @property
    def refusal(self) -> PluginError:
        """The error for whoever asks for a plug-in that is refused."""
        message = (
            f"strategy {self.full_name} of {self.package} is refused: {self.reason}"
        )
        hint = "install another version of that package; other strategies still work"
        return PluginError(message, hint=hint)


_OFFERED: Final[dict[str, Strategy]] = {}


@contextmanager
def offered(*strategies: Strategy) -> Iterator[None]:
    """Let strategies be found as if a package brought them, for as long as this lasts.

    For tests of a strategy whose package is not built yet: it is not tried. The whole
    process sees it.
    """
    before = dict(_OFFERED)
    _OFFERED.update((strategy.full_name, strategy) for strategy in strategies)
    try:
        yield
    finally:
        _OFFERED.clear()
        _OFFERED.update(before)


def installed() -> tuple[str, ...]:
    """Return the versioned names of all plug-ins, without importing any."""
    return tuple(sorted(_entries().keys() | _OFFERED.keys()))


def listed() -> tuple[Listed, ...]:
    """Return all plug-ins, tried; those that are refused have a reason."""
    misnamed = [
        Listed(entry.name, _package(entry), reason=_MISNAMED)
        for entry in _found()
        if not _ENTRY.fullmatch(entry.name)
    ]
    tried = [_tried(name) for name in sorted(_entries())]
    return tuple(sorted([*tried, *misnamed], key=lambda item: item.full_name))


def package_of(full_name: str) -> str:
    """Return the name and version of the package that brings a strategy; empty if none."""
    return " and ".join(_package(entry) for entry in _entries().get(full_name, ()))


def named(name: str) -> str | None:
    """Return the versioned name of what a user calls `name`: the newest if no version."""
    plain, slash, version = name.partition("/")
    found = (full.partition("/") for full in installed())
    versions = [int(number) for called, _, number in found if called == plain]
    fitting = [v for v in versions if not slash or version == str(v)]
    return f"{plain}/{max(fitting)}" if fitting else None


def get(full_name: str) -> Strategy | None:
    """Return the plug-in of a versioned name, tried; None if it is not installed.

    Raises:
        PluginError: it is installed, and refused.
    """
    if full_name in _OFFERED:
        return _OFFERED[full_name]
    if full_name not in _entries():
        return None
    found = _tried(full_name)
    if found.strategy is None:
        raise found.refusal
    return found.strategy


def digest_of(full_name: str) -> str:
    """Return the digest that an installed plug-in must declare, whatever it declares.

    Raises:
        PluginError: it cannot be loaded, or breaks a promise.
    """
    try:
        plugin = _loaded(full_name)
        return trial_digest(plugin.strategy, plugin.parameters)
    except (Exception, SystemExit) as e:
        raise _refused(full_name, e).refusal from e


def _package(entry: "EntryPoint") -> str:
    found = entry.dist
    return f"{found.name} {found.version}" if found else "an unnamed package"


@cache
def _found() -> "tuple[EntryPoint, ...]":
    from importlib.metadata import entry_points

    return tuple(entry_points(group=GROUP))


@cache
def _entries() -> "Mapping[str, tuple[EntryPoint, ...]]":
    """Return the entry points by the versioned name of the strategy that each names."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in _found():
        if match := _ENTRY.fullmatch(entry.name):
            name = f"{match[1]}/{match[2]}"
            found[name] = (*found.get(name, ()), entry)
    return found


@cache
def _tried(full_name: str) -> Listed:
    """Return a plug-in, loaded and tried; whatever it raises is why it is refused."""
    try:
        plugin = _loaded(full_name)
        _check_trials(plugin)
    except (Exception, SystemExit) as e:  # noqa: BLE001  it is other people's code
        return _refused(full_name, e)
    return Listed(full_name, package_of(full_name), plugin.strategy)


def _refused(full_name: str, error: BaseException) -> Listed:
    ours = isinstance(error, PluginError)
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    reason = " ".join(text.split())[:REASON_CHARACTERS_MAX]
    return Listed(full_name, package_of(full_name), reason=reason)


def _loaded(full_name: str) -> Plugin:
    """Return what an entry point names, if it is a plug-in of that name.

    Raises:
        PluginError: it is something else.
    """
    entries = _entries()[full_name]
    if len(entries) > 1:
        raise PluginError("several packages bring it; uninstall all but one")
    plugin = entries[0].load()
    if not isinstance(plugin, Plugin) or not isinstance(plugin.strategy, Strategy):
        raise PluginError(f"{entries[0].value} is no Plugin with a Strategy")
    if plugin.strategy.full_name != full_name:
        raise PluginError(f"{entries[0].value} is {plugin.strategy.full_name}")
    if plugin.strategy.aliases:
        raise PluginError("it has aliases, which only our own strategies have")
    return plugin


def _check_trials(plugin: Plugin) -> None:
    """Run the trials and compare their digest.

    Raises:
        PluginError: it is another one, or the strategy breaks a promise.
    """
    found = trial_digest(plugin.strategy, plugin.parameters)
    if plugin.strategy.classification == "platform":
        if plugin.digest:
            raise PluginError("a strategy of class platform declares no digest")
    elif not plugin.digest:
        raise PluginError("it declares no digest of its trials")
    elif found != plugin.digest:
        raise PluginError(
            f"its trials give {found[:12]}, not the {plugin.digest[:12]} that it declares:"
            " its bytes are not those of its authors"
        )
