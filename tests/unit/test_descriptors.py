"""A node asks for as many descriptors as its ports may hold, and never for fewer."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

ASK = "from nodes.descriptors import raise_limit; print(raise_limit())"


@pytest.mark.parametrize(
    ("soft", "hard", "then"), [(256, 512, 512), (300, 300, 300), (256, 1 << 14, 8192)]
)
def test_the_limit_is_raised_as_far_as_the_system_lets_us(
    soft: int, hard: int, then: int
) -> None:
    """In a process of its own: a hard limit cannot be raised again."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this system allows fewer")
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}));"
    done = subprocess.run(
        [sys.executable, "-c", limit + ASK], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == then


def test_a_higher_limit_stays() -> None:
    """Who was given more keeps it."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 9000:
        pytest.skip("this system allows fewer")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (9000, 9000));"
    done = subprocess.run(
        [sys.executable, "-c", limit + ASK], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == 9000
