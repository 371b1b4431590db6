"""`python -m simulations`: each command is there, and others are refused."""

from importlib import import_module

import pytest

from simulations import __main__ as program


def test_each_command_has_its_main() -> None:
    """A name in the table leads to a module with a `main`."""
    for module in program.COMMANDS.values():
        assert callable(import_module(module, "simulations").main)


@pytest.mark.parametrize("argv", [[], ["no-such-command"]])
def test_other_words_are_refused(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is that of a wrong command line, and the commands are named."""
    assert program.main(argv) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in program.COMMANDS)
