"""Commands that other packages add to the program, found by their entry points.

Owns finding and loading them. Does not own any, nor imports one by name: installed packages
are looked through only where all commands are listed or a name is none of ours, and a
command is loaded only where it is run.
"""

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from .output import Interrupted

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "crdtmerge.commands"
"""Entry points of this group name functions that return the `typer.Typer` to add."""


class Program(TyperGroup):
    """The program's own commands first, then the added ones, which cannot replace them.

    The types are `Any` since typer carries its own copy of click or not, by its version.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Return all names."""
        own = super().list_commands(ctx)
        return [*own, *(name for name in sorted(_added()) if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; for an added one what stands for it in lists."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in _added():
            return own
        text = f"An added command; see `crdtmerge {cmd_name} --help`."
        return TyperCommand(cmd_name, help=text)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command to run, loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name not in self.commands and name in _added():
            command = get_command(_added()[name].load()())
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C comes out with what was noted of the work."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as e:
            raise Interrupted(e) from e


@cache
def _added() -> "dict[str, EntryPoint]":
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}
