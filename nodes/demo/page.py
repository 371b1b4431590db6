"""The index of the demo's report: what happened, in a page that anyone can read.

Owns the words and tables of README.md, and accuracy.csv. Does not own which files there
are (`folder`), nor the figures (`report`).
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence

from .report import SHOWN_CHARACTERS, Outcome, Stage, broken_promises, equal

STORY = """\
Four peers on one machine, each with a home, a key and processes of its own, and no server.
They share a small network trained on a few digits: the **base**. Three of them fine-tune
it, each on digits that the others do not have, and contribute the result. Gossip brings
signed records and tensors to all, and **each peer computes the merged model by itself**.

Then the fourth contributes a **poisoned** model. It is valid, so it spreads, and the merge
falls. The owner **bans** it; the ban spreads like any record, and all merge again."""

FILES = """\
* `accuracy.png`, `accuracy.csv`: the plot and the table above.
* `figures.json`: every figure of this page for a program, with whole digests.
* `resolutions/STAGE/PEER.json`: what each peer wrote beside its merged model: the
  contributions and their weights, the recipe, seeds, and the digest of every tensor and of
  the model. It names no time, machine or path, so that equal merges have equal bytes.
* `resolutions/SHA256SUMS`: their sums."""

CHECK = """\
```sh
(cd resolutions && sha256sum -c SHA256SUMS)
cmp resolutions/merged/alice.json resolutions/merged/carol.json
cmp resolutions/merged/alice.json resolutions/after-the-ban/alice.json
```

The last two print nothing: the files are equal. `crdtmerge demo` makes all of this anew;
its keys are new each time, so the ids of space and authors are too, but not the model."""


def index(outcome: Outcome) -> str:
    """Return the text of README.md."""
    parts = (
        ["# What the demo found", ""],
        _verdict(outcome),
        ["", "![Accuracy of every model, overall and digit by digit](accuracy.png)"],
        ["", "## What happened", "", STORY],
        ["", "## Accuracy", "", *_accuracy(outcome)],
        ["", "## Do the peers agree?", "", *_agreement(outcome)],
        ["", "## The files", "", FILES, "", "## Check it", "", CHECK],
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def accuracy_csv(outcome: Outcome) -> str:
    """Return the accuracies as CSV: overall, then digit by digit."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    digits = range(len(outcome.by_digit[0]))
    writer.writerow(["model", "all", *(f"digit_{digit}" for digit in digits)])
    for row in outcome.rows:
        shares = (row.share, *row.by_digit)
        writer.writerow([row.label, *(f"{share:.6f}" for share in shares)])
    return file.getvalue()


def _verdict(outcome: Outcome) -> Iterator[str]:
    broken = list(broken_promises(outcome))
    if broken:
        yield "**Not everything came true:**"
        yield ""
        yield from (f"* {sentence}" for sentence in broken)
        return
    figures = outcome.accuracy
    best = max(figures.fine_tunes)
    yield (
        f"The merge tells **{figures.merged:.1%}** of the test images; the best single"
        f" fine-tune {best:.1%}, the base {figures.base:.1%}."
    )
    yield (
        f"With the poison it fell to {figures.poisoned:.1%}; after the ban it is"
        f" {figures.after_ban:.1%} again, **byte for byte** the model of before."
    )
    yield (
        f"All {len(outcome.names)} peers computed the same bytes, at each of the"
        f" {len(outcome.stages)} stages."
    )


def _accuracy(outcome: Outcome) -> Iterator[str]:
    yield f"On {outcome.test_images} test images that no model was trained on, in percent."
    yield ""
    digits = range(len(outcome.by_digit[0]))
    yield from _table(
        ["model", "**all**", *map(str, digits)],
        (
            [row.label, f"**{row.share:.1%}**", *(f"{s:.0%}" for s in row.by_digit)]
            for row in outcome.rows
        ),
        left=1,
    )


def _agreement(outcome: Outcome) -> Iterator[str]:
    yield "Each stage, as every peer computed it from its own copy of what gossip brought."
    yield ""
    yield from _table(
        ["stage", "contributions", "merge id", "model digest", "the peers' bytes"],
        (_stage(name, stage) for name, stage in outcome.stages),
        left=1,
    )
    roots = "equal" if equal(outcome.roots) else "DIFFERENT"
    yield ""
    yield (
        f"The record root after the ban, which names all that was ever said in the space:"
        f" `{outcome.roots[0][:SHOWN_CHARACTERS]}`, {roots} on all"
        f" {len(outcome.names)} peers ({', '.join(outcome.names)})."
    )


def _stage(name: str, stage: Stage) -> list[str]:
    """Return the cells of one stage; the first peer's, where all must be equal."""
    said = json.loads(stage.resolutions[0])
    models = "models equal" if equal(stage.models) else "models DIFFERENT"
    same = equal(stage.resolutions)
    resolutions = "resolutions equal" if same else "resolutions DIFFERENT"
    return [
        name,
        str(len(said["contributions"])),
        f"`{said['merge_id'][:SHOWN_CHARACTERS]}`",
        f"`{stage.digests[0][:SHOWN_CHARACTERS]}`",
        f"{len(stage.models)} {models}, {len(stage.resolutions)} {resolutions}",
    ]


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int
) -> Iterator[str]:
    """Yield a Markdown table whose first `left` columns are texts, the others figures."""
    yield _line(head)
    yield _line(["---" if column < left else "---:" for column in range(len(head))])
    yield from map(_line, rows)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def sums(files: Iterable[tuple[str, bytes]]) -> str:
    """Return SHA-256 sums of (name, bytes) as `sha256sum -c` reads them."""
    lines = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files)
    return "".join(lines)
