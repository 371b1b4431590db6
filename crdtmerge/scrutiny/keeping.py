"""Figures in a memo: under which key each is kept, and how it is laid out.

Owns keys and layout. Does not own the memo, nor the figures. A key is the digest of all
that can change a bit of a figure: the base, whose contribution, the contract, and this
version of the measure. Rows hold one figure a tensor (NaN where it was not measured),
and go by pairs of contributions, so that one more contribution costs its own pairs
alone.
"""

from collections.abc import Mapping
from itertools import combinations_with_replacement
from math import prod
from typing import Final

import numpy as np

from crdtmerge.codec import Value
from crdtmerge.digest import Domain, digest_value
from crdtmerge.numerics import CONTRACT_VERSION, Floats
from crdtmerge.resolve.memo import Measures, Memo
from crdtmerge.scrutiny.subjects import Company

VERSION: Final = 1
"""Of the measures: another meaning of any figure is another number."""


class Kept:
    """What a memo knows of a company."""

    def __init__(self, company: Company, memo: Memo | None) -> None:
        """Keep both; nothing is looked up yet."""
        self._memo = memo
        self._base = company.base.content_id
        self._contents = [b"", *(subject.content for subject in company.subjects)]
        self._tensors = len(company.tensors)
        self._before: dict[bytes, Measures] = {}

    def products(self) -> Floats:
        """Return the inner products that are kept; the rest is NaN."""
        size = len(self._contents)
        found = np.full((self._tensors, size, size), np.nan)
        keys = {pair: self._pair_key(*pair) for pair in self._pairs()}
        kept = self._look(list(keys.values()), self._tensors)
        for (one, other), key in keys.items():
            if key in kept:
                found[:, one, other] = found[:, other, one] = kept[key]
        return found

    def of_each(self, what: str, shape: tuple[int, ...]) -> Floats:
        """Return figures of each subject, (subjects, *shape); what is not kept is NaN."""
        found = np.full((len(self._contents) - 1, *shape), np.nan)
        keys = [self._own_key(what, content) for content in self._contents[1:]]
        kept = self._look(keys, prod(shape))
        for place, key in enumerate(keys):
            if key in kept:
                found[place] = np.array(kept[key]).reshape(shape)
        return found

    def keep(self, products: Floats, of_each: Mapping[str, Floats]) -> None:
        """Let the memo have what it did not know."""
        if self._memo is None:
            return
        rows: dict[bytes, Floats] = {
            self._pair_key(one, other): products[:, one, other]
            for one, other in self._pairs()
        }
        for what, figures in of_each.items():
            for content, own in zip(self._contents[1:], figures, strict=True):
                rows[self._own_key(what, content)] = own.reshape(-1)
        fresh = {
            key: tuple(row.tolist())
            for key, row in rows.items()
            if not np.isnan(row).all() and not self._is_known(key, row)
        }
        self._memo.keep({}, fresh)

    def _is_known(self, key: bytes, row: Floats) -> bool:
        before = self._before.get(key)
        return before is not None and np.array_equal(before, row, equal_nan=True)

    def _look(self, keys: list[bytes], size: int) -> dict[bytes, Measures]:
        if self._memo is None:
            return {}
        kept = self._memo.measures(keys)
        found = {key: row for key, row in kept.items() if len(row) == size}
        self._before |= found
        return found

    def _pairs(self) -> list[tuple[int, int]]:
        return list(combinations_with_replacement(range(len(self._contents)), 2))

    def _pair_key(self, one: int, other: int) -> bytes:
        pair = sorted((self._contents[one], self._contents[other]))
        return self._key("products", *pair)

    def _own_key(self, what: str, content: bytes) -> bytes:
        return self._key(what, content)

    def _key(self, what: str, *contents: bytes) -> bytes:
        value: list[Value] = [VERSION, CONTRACT_VERSION, what, self._base, *contents]
        return digest_value(Domain.SCRUTINY, value)
