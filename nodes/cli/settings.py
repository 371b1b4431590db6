"""What holds for one command: its home, the form of its output.

Owns how a command's own options and the program's come together. Does not own the options
(`options`).
"""

from dataclasses import dataclass
from pathlib import Path

import typer


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for one command: the home, and the form of the output."""

    given: Path | None
    as_json: bool
    passphrase_file: Path | None = None

    @property
    def home(self) -> Path:
        """The home: as given, or the default of this system."""
        if self.given is not None:
            return self.given.expanduser().absolute()
        from ..home import default_home

        return default_home().absolute()


def settings(
    context: typer.Context,
    home: Path | None = None,
    *,
    as_json: bool = False,
    passphrase_file: Path | None = None,
) -> Settings:
    """Return the settings of a command; its own options win over the program's."""
    outer = context.find_object(Settings) or Settings(None, as_json=False)
    return Settings(
        home or outer.given,
        as_json or outer.as_json,
        passphrase_file or outer.passphrase_file,
    )
