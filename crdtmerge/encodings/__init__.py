"""Lossless encodings of one chunk: fewer bytes on the wire and in cold storage.

Owns the encoded form of a chunk and its decoder; sole importer of zstd. Does not own when
encoding pays (a link's rate decides that), where the chunk of the base comes from, nor
digests: they name raw bytes, and **whoever decodes verifies the digest of what comes out**.

No arithmetic on weights happens here: items are bit patterns that are split, XORed, or
mapped to integers and subtracted with wrap-around. Every step has an exact inverse for any
bits, so what an item means does not matter, only how wide it is.

Form of an encoded chunk: one byte `form << 4 | log2(width)`, then by form

* `PLAIN` (width 1): one zstd frame of the bytes as they are;
* `PLANES`: the items' lowest bytes, then their second bytes, and so on. Exponents compress
  beside their like and not between mantissas;
* `XOR`: as PLANES, of each item XOR the item of the base in its place;
* `DIFFERENCE`: as PLANES, of the zigzag of the difference to the item of the base, both
  mapped to integers in the order of floats. What moved a little gives a small number, also
  over the border of a binade, where XOR gives a large one;
* `GROUPED`: as DIFFERENCE, the items sorted (stably) by the exponents of the base: training
  moves all weights of a tensor about as far, which in units of the last place is much for
  a small weight and little for a large one.

A plane is one byte of `Mode` and a body: `STORED` the bytes; `FRAME` a length in three
bytes and a zstd frame; `FILLED` the one byte that all are; `HALVES` the low halves of the
bytes, two in a byte, as a plane, then the high halves; `QUARTERS` likewise pairs of bits,
four in a byte. zstd spends at least one bit on a byte, and what a search for repetitions
finds among numbers is chance: several small ones in a byte cost less. After the planes
stand the bytes that make no whole item. Numbers are little-endian.

An encoded chunk is **always shorter** than the raw one, which is how a reader tells them
apart. Decoders read every form ever written (`tests/vectors`); encoders may improve.
"""

from crdtmerge.encodings.chunks import (
    BASED,
    WIDTHS,
    Form,
    choose,
    decode,
    encode,
    form_of,
    sampled,
)
from crdtmerge.encodings.planes import Effort

__all__ = (
    "BASED",
    "WIDTHS",
    "Effort",
    "Form",
    "choose",
    "decode",
    "encode",
    "form_of",
    "sampled",
)
