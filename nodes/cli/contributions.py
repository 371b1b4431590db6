"""The commands `contribute`, `remove`, `ban`, `check` and `status`.

Owns their options. Does not own what they do (`operations.contributing`, `banning`,
`faulting`).
"""

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from . import completion, render, render_members
from .executor import ask, write
from .options import HomeOption, JsonOption, SpaceOption
from .output import show
from .settings import settings

UNUSABLE: Final = 8
"""The exit code of `check` where a contribution cannot be merged, as of damage."""

AnywhereOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="SPACE",
        help="Name or id prefix; needed only if the id is in several spaces.",
        show_default=False,
        autocompletion=completion.spaces,
    ),
]
ModelArgument: TypeAlias = Annotated[
    Path,
    typer.Argument(
        help="A folder of safetensors or PyTorch files, one such file, or an adapter."
    ),
]
WeightOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="W", help="A decimal from 0 to 1000; 1 if left out."),
]
NoteOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What others should know of it.")
]
TagOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TAG",
        help="A word that recipes may select it by; repeat for more.",
        show_default=False,
        autocompletion=completion.tags,
    ),
]
KindOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="full, delta (differences to the base) or lora; an adapter is known by"
        " its config, all else is full.",
        show_default=False,
    ),
]
VocabularyOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="POLICY",
        help="Where the tokenizer is not the base's: refuse (default), or align its"
        " rows to the base's, by token.",
        show_default=False,
    ),
]
ReferenceOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--reference",
        help="Do not copy: use the files where they lie, verified on use.",
    ),
]
EvidenceOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND=FILE",
        help="What strategies may read of its data, such as fisher=FILE; or the folder"
        " that `evidence compute` made; repeat for more.",
        show_default=False,
    ),
]
NoInspectOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-inspect", help="Do not say what stands out of it beside the others."
    ),
]


def contribute(
    context: typer.Context,
    path: ModelArgument,
    space: SpaceOption = None,
    weight: WeightOption = None,
    note: NoteOption = None,
    *,
    tag: TagOption = None,
    kind: KindOption = None,
    vocabulary: VocabularyOption = None,
    evidence: EvidenceOption = None,
    reference: ReferenceOption = False,
    no_inspect: NoInspectOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Offer a fine-tune of the space's base to the merge: a model, or an adapter."""
    chosen = settings(context, home, as_json=as_json)
    asked = {
        "path": str(path.absolute()),
        "space": space,
        "weight": weight,
        "note": note,
        "tags": list(tag or ()),
        "kind": kind,
        "vocabulary": vocabulary,
        "evidence": [_absolute(word) for word in evidence or ()],
        "reference": reference,
        "uninspected": no_inspect,
    }
    facts = write(chosen, "contribute", asked)
    show(facts, render.contributed, as_json=chosen.as_json)


def _absolute(word: str) -> str:
    """Return KIND=FILE, or a folder, as a node in another folder understands it."""
    kind, equals, file = word.partition("=")
    if Path(word).is_dir() or not equals:
        return str(Path(word).absolute())
    return f"{kind}={Path(file).absolute()}"


def remove(
    context: typer.Context,
    given: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Start of a contribution's or an add's id.",
            autocompletion=completion.contributions,
        ),
    ],
    space: AnywhereOption = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take a contribution out of the merge.

    Contributing it again brings it back; a ban would not let it.
    """
    chosen = settings(context, home, as_json=as_json)
    facts = write(chosen, "remove", {"id": given, "space": space})
    show(facts, render.removed, as_json=chosen.as_json)


def ban(
    context: typer.Context,
    given: Annotated[
        str,
        typer.Argument(
            metavar="ID|AUTHOR",
            help="Start of a contribution's id or of an author's; to lift one ban of"
            " several, of its record's.",
            autocompletion=completion.bannable,
        ),
    ],
    *,
    lift: Annotated[
        bool, typer.Option("--lift", help="The other way: let it in again.")
    ] = False,
    space: AnywhereOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a contribution or an author out, whoever adds it again."""
    chosen = settings(context, home, as_json=as_json)
    if lift:
        facts = write(chosen, "ban_lift", {"id": given, "space": space})
        show(facts, render_members.unbanned, as_json=chosen.as_json)
        return
    facts = write(chosen, "ban", {"id": given, "space": space})
    show(facts, render.banned, as_json=chosen.as_json)


def check(
    context: typer.Context,
    given: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Start of a contribution's id.",
            autocompletion=completion.contributions,
        ),
    ],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what is found, and publish nothing.")
    ] = False,
    space: AnywhereOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read all bytes of a contribution; exit code 8 if it cannot be merged.

    What its bytes prove, such as NaN, is published: it is then out of the merge for all.
    """
    chosen = settings(context, home, as_json=as_json)
    asked = {"id": given, "space": space, "dry_run": dry_run}
    read = ask(chosen.home, "check", asked) if dry_run else None
    facts = read or write(chosen, "check", asked)
    show(facts, render.checked, as_json=chosen.as_json)
    if not facts["usable"]:
        raise typer.Exit(UNUSABLE)


def status(
    context: typer.Context,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="SPACE",
            help="Name or id prefix; all spaces if left out.",
            show_default=False,
            autocompletion=completion.spaces,
        ),
    ] = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show peers, roots, contributions, and what is still missing."""
    chosen = settings(context, home, as_json=as_json)
    facts = ask(chosen.home, "status", {"space": space})
    show(facts, render.status, as_json=chosen.as_json)
