"""Warnings on the command line: for people, without file names and lines of code."""

import subprocess
import sys

PROGRAM = """
import warnings
from nodes import cli

def warns(_arguments):
    from crdtmerge.numerics import BackendWarning

    warnings.warn("the cpu backend\\nis \\x1b[31mslow", BackendWarning)
    warnings.warn("strange", RuntimeWarning)
    return 3

cli.run = warns
cli.main()
"""


def test_a_warning_of_ours_is_one_plain_line() -> None:
    """A backend that does not serve is told in words; others' warnings stay as they are."""
    made = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    first, *others = made.stderr.splitlines()
    assert first == "warning: the cpu backend is \N{REPLACEMENT CHARACTER}[31mslow"
    assert "RuntimeWarning: strange" in others[0]
    assert made.returncode == 3
