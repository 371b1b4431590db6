"""Which code runs: the commit of a checkout, else the version that is installed.

Owns asking git. Does not own what is done with the answer.
"""

import subprocess
from pathlib import Path
from typing import Final

from crdtmerge import __version__

FOLDER: Final = Path(__file__).parent
WAIT_S: Final = 10.0


def commit() -> str:
    """Return `git describe` of the checkout that this is, else the version."""
    # An environment inside another project's checkout is not a checkout of ours.
    if _git("ls-files", "--error-unmatch", "__init__.py"):
        return _git("describe", "--always", "--dirty") or __version__
    return __version__


def _git(*words: str) -> str:
    try:
        found = subprocess.run(  # noqa: S603  our own words
            ["git", "-C", str(FOLDER), *words],  # noqa: S607  whichever git the user has
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
