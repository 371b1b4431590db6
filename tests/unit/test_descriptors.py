"""A node asks for as many descriptors as its ports may hold, and never for fewer."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")


def raised(soft: int, hard: int) -> int:
    """Return what a process with these limits has once it asked for more."""
    limit = f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({soft}, {hard}))"
    ask = "from nodes.descriptors import raise_limit; print(raise_limit())"
    argv = [sys.executable, "-c", f"{limit}; {ask}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize(
    ("soft", "hard", "then"), [(256, 512, 512), (300, 300, 300), (256, 1 << 14, 8192)]
)
def test_the_limit_is_raised_as_far_as_the_system_lets_us(
    soft: int, hard: int, then: int
) -> None:
    """In a process of its own: a hard limit cannot be raised again."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this system allows fewer")
    assert raised(soft, hard) == then


def test_a_higher_limit_stays() -> None:
    """Who was given more keeps it."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 9000:
        pytest.skip("this system allows fewer")
    assert raised(9000, 9000) == 9000
