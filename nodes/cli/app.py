"""The table of commands.

Owns names, groups and the program's own options. Does not own any command.
"""

from pathlib import Path
from typing import Annotated

import typer

from crdtmerge import __version__

from . import (
    archives,
    audits,
    catalogue,
    compacting,
    contributions,
    doctor,
    evaluations,
    evidence,
    history,
    homes,
    inspecting,
    key,
    members,
    models,
    peers,
    proving,
    quotas,
    recipes,
    restored,
    secrecy,
    spaces,
    store,
    store_packing,
)
from .added import Program
from .options import HomeOption, JsonOption, PassphraseFileOption
from .settings import Settings


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"crdtmerge {__version__}")
        raise typer.Exit


def program(
    context: typer.Context,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
    passphrase_file: PassphraseFileOption = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_show_version,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Merge fine-tunes of one base model with no server, byte for byte the same."""
    del version  # its callback has ended the program
    given = Path(home) if home else None
    context.obj = Settings(given, as_json, passphrase_file)


def build() -> typer.Typer:
    """Return the program with all its commands, in the order of a first session."""
    app = typer.Typer(
        name="crdtmerge",
        cls=Program,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        # Plain help: importing rich for it would double the time to an answer.
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(program)
    app.command("init")(secrecy.init)
    app.command("passphrase")(secrecy.passphrase)
    app.command("whoami")(homes.whoami)
    app.add_typer(_key_group())
    app.add_typer(_space_group())
    app.add_typer(_node_group())
    app.add_typer(_recipe_group())
    app.add_typer(_peers_group())
    app.add_typer(_store_group())
    app.command("contribute")(contributions.contribute)
    app.command("remove")(contributions.remove)
    app.command("ban")(contributions.ban)
    app.command("check")(contributions.check)
    app.add_typer(_evidence_group())
    app.add_typer(_evaluation_group())
    app.command("inspect")(inspecting.inspect)
    app.command("status")(contributions.status)
    app.command("log")(history.log)
    app.command("fetch")(peers.fetch)
    app.command("wait")(peers.wait)
    app.command("resolve")(models.resolve)
    app.command("merge")(models.merge)
    app.command("verify")(models.verify)
    app.command("audit")(audits.audit)
    app.command("strategies")(catalogue.strategies)
    app.command("doctor")(doctor.doctor)
    app.command("demo")(homes.demo)
    return app


def _key_group() -> typer.Typer:
    group = typer.Typer(
        name="key",
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Your author key: change it, keep a spare, recover from its loss.",
    )
    group.command("rotate")(key.rotate)
    group.command("spare")(key.spare)
    group.command("recover")(key.recover)
    return group


def _space_group() -> typer.Typer:
    group = typer.Typer(
        name="space",
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Spaces and their members: one space is one shared merge.",
    )
    group.command("create")(spaces.create)
    group.command("join")(spaces.join)
    group.command("ticket")(spaces.ticket)
    group.command("list")(spaces.listing)
    group.command("export")(archives.export)
    group.command("import")(archives.import_)
    group.command("compact")(compacting.compact)
    group.command("members")(members.members)
    group.command("grant")(members.grant)
    group.command("revoke")(members.revoke)
    group.command("leave")(members.leave)
    group.command("approve")(members.approve)
    group.command("pending")(members.pending)
    group.command("forks")(members.forks)
    group.command("prove")(proving.prove)
    group.command("check-proof")(proving.check_proof)
    return group


def _recipe_group() -> typer.Typer:
    group = typer.Typer(
        name="recipe",
        no_args_is_help=True,
        rich_markup_mode=None,
        help="How a space is merged: one recipe, the same for everybody.",
    )
    group.command("set")(recipes.set_recipe)
    group.command("show")(recipes.show_recipe)
    group.command("check")(recipes.check_recipe)
    group.command("steps")(recipes.list_steps)
    return group


def _evidence_group() -> typer.Typer:
    group = typer.Typer(
        name="evidence",
        no_args_is_help=True,
        rich_markup_mode=None,
        help="What a merge may read of your data: compute it, to contribute it.",
    )
    group.callback()(_evidence)
    group.command("compute")(evidence.compute)
    return group


def _evidence() -> None:
    """What a merge may read of your data: compute it, to contribute it."""


def _evaluation_group() -> typer.Typer:
    group = typer.Typer(
        name="evaluation",
        no_args_is_help=True,
        rich_markup_mode=None,
        help="How well contributions do: say what you measured, see what all say.",
    )
    group.command("add")(evaluations.add)
    group.command("list")(evaluations.listing)
    return group


def _peers_group() -> typer.Typer:
    group = typer.Typer(
        name="peers",
        no_args_is_help=True,
        rich_markup_mode=None,
        help="The other nodes: where they listen, and which are connected.",
    )
    group.command("list")(peers.listing)
    group.command("add")(peers.add)
    group.command("remove")(peers.remove)
    return group


def _store_group() -> typer.Typer:
    group = typer.Typer(
        name="store",
        no_args_is_help=True,
        rich_markup_mode=None,
        help="The blobs on this machine: what lies here, what may go, what is damaged.",
    )
    group.command("show")(store.show_store)
    group.command("gc")(store.gc)
    group.command("quota")(store.quota)
    group.command("adopt")(restored.adopt)
    group.command("pin")(store.pin)
    group.command("unpin")(store.unpin)
    group.command("pack")(store_packing.pack)
    group.command("unpack")(store_packing.unpack)
    group.command("fsck")(store.fsck)
    return group


def _node_group() -> typer.Typer:
    group = typer.Typer(
        name="node",
        no_args_is_help=True,
        rich_markup_mode=None,
        help="The process that gossips with peers.",
    )
    group.callback()(_node)
    group.command("run")(homes.node_run)
    group.command("metrics")(homes.node_metrics)
    group.command("health")(homes.node_health)
    group.command("quotas")(quotas.node_quotas)
    return group


def _node() -> None:
    """The process that gossips with peers."""
