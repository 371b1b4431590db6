"""The benchmark of encodings measures what it says, on little training.

The figures of the documents are those of `python -m benchmarks encodings`. It brings in
transformers and PEFT, seconds that only the process that runs these tests should pay.
"""

import pytest
import torch

NAMES = ["full, float32", "full, bfloat16", "upper half", "LoRA adapter"]

# PEFT asks transformers for a name that is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.slow
def test_real_training_is_encoded_in_fewer_bytes() -> None:
    """Each kind of fine-tune: ours below zstd, the difference below XOR, dedup counted."""
    from benchmarks.encodings import command
    from benchmarks.encodings.bases import small_base

    base = small_base(width=64, layers=2)
    document = command.run(base, 6, 1, NAMES)
    cases = {case["case"]: case for case in document["cases"]}
    assert len(cases) == len(NAMES) + 1  # two are called bfloat16
    for name, case in cases.items():
        chosen = case["ways"]["chosen"]["bytes"]
        assert chosen < min(case["zstd_bytes"], case["dedup_bytes"]), name
        assert case["ways"]["chosen, small"]["bytes"] <= chosen * 1.01, name
        if "DIFFERENCE" in case["ways"]:
            of = {way: case["ways"][way]["bytes"] for way in ("DIFFERENCE", "XOR")}
            assert of["DIFFERENCE"] < of["XOR"], name
    half = cases["upper half, float32"]
    assert half["dedup_bytes"] < 0.7 * half["raw_bytes"]
    text = command.render(document)
    assert all(f"| {name} |" in text for name in cases)


def test_every_case_trains_something_else() -> None:
    """No two kinds of fine-tune have one name."""
    from benchmarks.encodings.training import CASES

    assert len({case.name for case in CASES}) == len(CASES)


def test_a_decoder_that_errs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of what comes out are compared, not lengths."""
    from benchmarks.encodings import measuring
    from benchmarks.encodings.training import Tuned

    value = torch.arange(1000.0)
    tuned = Tuned({"a": value}, {"a": value + 1})
    assert measuring.measure(tuned, 1)["ways"]["chosen"]["bytes"] < 4000

    def zeros(_data: bytes, *, length: int, against: bytes | None) -> bytes:
        assert against is not None
        return bytes(length)

    monkeypatch.setattr(measuring, "decode", zeros)
    with pytest.raises(AssertionError, match="not the bytes"):
        measuring.measure(tuned, 1)
