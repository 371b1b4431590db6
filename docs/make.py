"""Writes docs/strategies, a page for each module of strategies, and docs/metrics.md.

Owns the form of these pages. Does not own what stands in them: declarations and docstrings
of `crdtmerge.strategies`, in the words of `crdtmerge strategies`, and the table of
`nodes.metrics`; nor docs/faults.md (`make_faults`). Run by `make docs`.
"""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final

import crdtmerge.strategies
from crdtmerge.strategies import STRATEGIES, Strategy
from docs.make_faults import write_faults
from nodes.cli.catalogue import described
from nodes.cli.render_strategies import GROUPS, declared, group, parameters
from nodes.metrics import METRICS

FOLDER: Final = Path(__file__).parent / "strategies"
METRICS_PAGE: Final = Path(__file__).parent / "metrics.md"
INDEX: Final = "README.md"

_INTRODUCTION: Final = """\
# Strategies

Written by `make docs` from the declarations and docstrings of `crdtmerge/strategies`.

Every strategy gives the same bytes in any order of contributions and, in class `portable`,
on any machine ([contract](../adr/0004-numeric-contract.md)). Its page says how weights are
used.
`crdtmerge strategies NAME` shows a declaration; those of
[other packages](../guide.md#strategies-of-other-packages) are listed there too.
"""

_READING: Final = """\
PER says what may have a value of its own: a `tensor` by a [rule](../recipes.md) of the
recipe; a `model` by a rule with content, author or tag, or in a mergekit configuration;
`merge` is one value for all. MERGEKIT is mergekit's default, if there is one.
"""


_METRICS: Final = """\
# Metrics

Written by `make docs` from the table in `nodes/metrics.py`.

`crdtmerge node metrics` prints what the running node counts, in the text format of
Prometheus; `--json` prints the same as JSON. It goes over the control socket: no port
serves it, and only the user of the home can ask. A cron job that writes the output into
the folder of node_exporter's textfile collector feeds a monitoring system.

Counters (`_total`) are 0 when a node starts. A label `error` is the name of a class in
`crdtmerge/errors.py`, which says whose fault it is; a sample stands there once it happened.
"""


def metrics_page() -> str:
    """Return the text of the page of metrics."""
    rows = [
        (f"`{m.full_name}`", m.kind, ", ".join(m.labels) or "-", m.help)
        for m in METRICS
    ]
    return f"{_METRICS}\n{_table(('Name', 'Type', 'Labels', 'What it is'), rows)}\n"


def pages() -> dict[str, str]:
    """Return the text of every page by its file name."""
    grouped: dict[str, list[Strategy]] = {}
    for name in sorted(STRATEGIES):
        strategy = STRATEGIES[name]
        grouped.setdefault(_file(module_of(strategy)), []).append(strategy)
    found = {file: _page(found) for file, found in grouped.items()}
    return {INDEX: _index(), **found}


@cache
def module_of(strategy: Strategy) -> ModuleType:
    """Return the module that assigns a strategy to a name, not those that import it.

    Raises:
        LookupError: no module of the package does.
    """
    root = crdtmerge.strategies
    for found in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
        module = importlib.import_module(found.name)
        if any(vars(module).get(name) is strategy for name in _assigned(module)):
            return module
    raise LookupError(f"no module assigns {strategy.full_name}")


@cache
def _assigned(module: ModuleType) -> frozenset[str]:
    """Return the names that a module gives values to at its top level."""
    names: set[str] = set()
    for node in ast.parse(inspect.getsource(module)).body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(names)


def _file(module: ModuleType) -> str:
    return f"{module.__name__.rpartition('.')[2]}.md"


def _index() -> str:
    """Return the table of all strategies, in the groups of the command line."""
    facts = [(s, described(s)) for s in map(STRATEGIES.__getitem__, sorted(STRATEGIES))]
    parts = [_INTRODUCTION]
    for title in GROUPS:
        rows = [_row(s) for s, told in facts if group(told) == title]
        if rows:
            head = ("Strategy", "What it does", "Base", "Class", "Paper")
            parts.append(f"## {_capital(title)}\n\n{_table(head, rows)}\n")
    return "\n".join(parts)


def _row(strategy: Strategy) -> tuple[str, ...]:
    link = f"[{strategy.full_name}]({_file(module_of(strategy))}#{_anchor(strategy)})"
    also = ", ".join(f"`{alias}`" for alias in strategy.aliases)
    base = "needed" if strategy.needs_base else "no"
    return (
        f"{link}, also {also}" if also else link,
        _escaped(strategy.summary),
        "used if there" if strategy.prefers_base else base,
        strategy.classification,
        _paper(strategy),
    )


def _page(strategies: Sequence[Strategy]) -> str:
    """Return the page of one module: each declaration, then what the docstring says."""
    module = module_of(strategies[0])
    title = ", ".join(strategy.name for strategy in strategies)
    source = f"{module.__name__.replace('.', '/')}.py"
    parts = [
        f"# {title}\n",
        f"From [{source}](../../{source}); [all strategies](README.md).\n",
        *(_section(strategy) for strategy in strategies),
    ]
    if any(strategy.parameters for strategy in strategies):
        parts.append(_READING)
    return "\n".join([*parts, f"## Formula\n\n```text\n{_formula(module)}\n```\n"])


def _section(strategy: Strategy) -> str:
    facts = described(strategy)
    aliases = ", ".join(f"`{alias}`" for alias in strategy.aliases)
    lines = [
        f"* paper: {_paper(strategy)}",
        f"* class: {strategy.classification}",
        *([f"* aliases: {aliases}"] if aliases else []),
        *(f"* {name}: {text}" for name, text in declared(facts)),
    ]
    head, *rows = parameters(facts)
    told = [tuple(_escaped(cell) for cell in row) for row in rows]
    table = _table(head, told) if rows else "No parameters."
    body = "\n".join(lines)
    heading = f"## {strategy.full_name}"
    return f"{heading}\n\n{_escaped(strategy.summary)}.\n\n{body}\n\n{table}\n"


def _formula(module: ModuleType) -> str:
    """Return the docstring without its title and what the module owns."""
    _, *parts = inspect.cleandoc(module.__doc__ or "").split("\n\n")
    return "\n\n".join(part for part in parts if not part.startswith("Owns ")).strip()


def _paper(strategy: Strategy) -> str:
    """Return the paper with its URL, which stands last, as a link."""
    said, _, link = strategy.paper.rpartition(", ")
    return f"[{_escaped(said)}]({link})"


def _anchor(strategy: Strategy) -> str:
    """Return what a heading such as `ties/1` is linked by: punctuation falls away."""
    return strategy.full_name.replace("/", "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _escaped(text: str) -> str:
    """Return prose in which Markdown sees no markup."""
    return "".join(f"\\{c}" if c in "\\`*_|<>[]" else c for c in text)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write(folder: Path) -> None:
    """Write all pages, and remove those of modules that are gone."""
    found = pages()
    folder.mkdir(exist_ok=True)
    for stale in {path.name for path in folder.glob("*.md")} - found.keys():
        (folder / stale).unlink()
    for name, text in found.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(FOLDER)
    METRICS_PAGE.write_text(metrics_page(), encoding="utf-8")
    write_faults()
