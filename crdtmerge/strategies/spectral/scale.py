"""The scale of a merged task matrix, which strategies on spectra share.

Owns the parameter `alpha`. Does not own what it scales.
"""

from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.strategies.base import Parameter

ALPHA: Final = Parameter(
    "alpha",
    "decimal",
    default="1",
    mergekit_default=None,
    help="scale of the merged task vector",
    maximum=100 * DECIMAL_UNIT,
)
