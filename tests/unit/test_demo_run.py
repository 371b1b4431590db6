"""What `run_demo` refuses before it starts."""

import sys
from pathlib import Path

import pytest

import nodes.demo
from crdtmerge.errors import BadInputError, ConflictError
from nodes.demo import run_demo


@pytest.mark.parametrize("package", ["torch", "sklearn", "matplotlib"])
def test_a_missing_package_is_named_with_the_way_to_get_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one of them, one clear message and how to install it."""
    for module in ("training", "story", "plot"):
        monkeypatch.delitem(sys.modules, f"nodes.demo.{module}", raising=False)
        monkeypatch.delattr(nodes.demo, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.datasets", None)
    with pytest.raises(BadInputError, match=package) as refused:
        run_demo()
    assert refused.value.hint == "pip install 'crdtmerge[demo]'"


def test_figures_need_a_folder_to_go_to(tmp_path: Path) -> None:
    """A path that cannot be written is refused before two minutes are spent."""
    with pytest.raises(BadInputError, match="there is no folder"):
        run_demo(tmp_path / "missing" / "out.json")


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """`keep` takes a new or empty folder only, `out` also one with a report."""
    (tmp_path / "thesis").write_text("done")
    with pytest.raises(ConflictError, match="is not empty"):
        run_demo(keep=tmp_path)
    with pytest.raises(ConflictError, match="is not a folder"):
        run_demo(keep=tmp_path / "thesis")
    with pytest.raises(ConflictError, match="no earlier report"):
        run_demo(out=tmp_path)
    assert (tmp_path / "thesis").read_text() == "done"
