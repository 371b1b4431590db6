"""Encoded chunks decode to what was encoded, also as another reader understands them."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from crdtmerge.encodings import BASED, WIDTHS, Effort, Form, choose, decode, encode
from crdtmerge.errors import MalformedChunkError
from tests.oracles import encoded_chunks

FORMS = sorted(Form)
LENGTH_MAX = 3000


@st.composite
def chunks(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw a chunk and a base chunk of its length: alike, nearly alike, or strangers."""
    length = draw(st.integers(1, LENGTH_MAX))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["noise", "floats", "few values", "zeros"]))
    if kind == "floats":
        base = rng.standard_normal(length).astype("<f4").view(np.uint8)[:length]
    else:
        top = {"noise": 256, "few values": 3, "zeros": 1}[kind]
        base = rng.integers(0, top, length, np.uint8)
    raw = base.copy()
    changed = draw(st.sampled_from([0, 1, 10, length]))
    places = rng.integers(0, length, changed)
    raw[places] ^= rng.integers(
        0, draw(st.sampled_from([2, 4, 256])), changed, np.uint8
    )
    return raw.tobytes(), base.tobytes()


@given(
    pair=chunks(),
    width=st.sampled_from(WIDTHS),
    form=st.sampled_from(FORMS),
    effort=st.sampled_from(Effort),
)
def test_what_is_encoded_is_decoded(
    pair: tuple[bytes, bytes], width: int, form: Form, effort: Effort
) -> None:
    """Any bytes, width and form: shorter, and the same again by ours and the oracle."""
    raw, base = pair
    data = encode(raw, width=width, against=base, form=form, effort=effort)
    if data is None:
        return
    assert len(data) < len(raw)
    given_base = base if form in BASED else None
    assert decode(data, length=len(raw), against=given_base) == raw
    assert encoded_chunks.decode(data, len(raw), given_base) == raw


@given(pair=chunks(), width=st.sampled_from(WIDTHS), based=st.booleans())
def test_every_effort_decodes_and_small_is_never_longer(
    pair: tuple[bytes, bytes], width: int, based: bool
) -> None:
    """Without a form named, SMALL takes the shortest that there is."""
    raw, base = pair
    against = base if based else None
    made = {
        effort: encode(raw, width=width, against=against, effort=effort)
        for effort in Effort
    }
    for data in made.values():
        if data is not None:
            assert decode(data, length=len(raw), against=against) == raw
    small, fast = (len(made[effort] or raw) for effort in (Effort.SMALL, Effort.FAST))
    assert small <= fast


@given(pair=chunks(), width=st.sampled_from(WIDTHS), based=st.booleans())
def test_the_chosen_form_is_the_shortest(
    pair: tuple[bytes, bytes], width: int, based: bool
) -> None:
    """A chosen form is possible, and pays; where none is chosen, none saves much."""
    raw, base = pair
    against = base if based else None
    form = choose([(raw, against)], width=width)
    possible = [f for f in FORMS if f is not Form.GROUPED and (based or f not in BASED)]
    lengths: dict[Form, int] = {
        f: len(encode(raw, width=width, against=against, form=f) or raw)
        for f in possible
    }
    least = min(lengths.values())
    if form is None:
        assert least >= len(raw) - len(raw) // 64
    else:
        assert lengths[form] == least


@given(
    data=st.binary(max_size=300),
    head=st.sampled_from(
        [form << 4 | log for form in (1, 2, 3, 4, 5) for log in range(4)]
    ),
    length=st.integers(1, 2000),
    based=st.booleans(),
)
@example(data=b"", head=0x10, length=2, based=False)
def test_foreign_bytes_are_refused_or_have_the_length(
    data: bytes, head: int, length: int, based: bool
) -> None:
    """No bytes make the decoder fail otherwise, or give more or less than was asked."""
    base = bytes(length) if based else None
    try:
        raw = decode(bytes([head]) + data, length=length, against=base)
    except MalformedChunkError:
        return
    assert len(raw) == length


@given(
    pair=chunks(),
    width=st.sampled_from(WIDTHS),
    form=st.sampled_from(FORMS),
    at=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
    cut=st.integers(0, 40),
)
def test_damaged_chunks_are_refused_or_have_the_length(
    pair: tuple[bytes, bytes], width: int, form: Form, at: float, bit: int, cut: int
) -> None:
    """A flipped bit never crashes the decoder nor changes the length; a cut is seen."""
    raw, base = pair
    data = encode(raw, width=width, against=base, form=form)
    if data is None:
        return
    damaged = bytearray(data)
    if cut:
        del damaged[len(damaged) - cut :]
    else:
        damaged[int(at * len(damaged))] ^= 1 << bit
    try:
        again = decode(bytes(damaged), length=len(raw), against=base)
    except MalformedChunkError:
        return
    assert len(again) == len(raw)
    assert not cut, "bytes are missing, and nobody noticed"
