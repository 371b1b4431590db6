"""The table of our strategies, and finding one by what a user calls it.

Owns the names. Does not own formulas, nor strategies of other packages (`plugins`). A
name with a version, once released, keeps its bits; a changed bit is another row.
"""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from crdtmerge.errors import UnknownNameError
from crdtmerge.strategies import (
    breadcrumbs,
    dare,
    della,
    linear,
    plugins,
    task_arithmetic,
    ties,
)
from crdtmerge.strategies.aoe import AOE
from crdtmerge.strategies.arcee_fusion import ARCEE_FUSION
from crdtmerge.strategies.base import Strategy
from crdtmerge.strategies.breadcrumbs import BREADCRUMBS, BREADCRUMBS_TIES
from crdtmerge.strategies.bulyan import BULYAN
from crdtmerge.strategies.cabs import CABS
from crdtmerge.strategies.dare import DARE_LINEAR, DARE_TIES
from crdtmerge.strategies.della import DELLA, DELLA_LINEAR
from crdtmerge.strategies.directions import KARCHER, MULTISLERP
from crdtmerge.strategies.emr import EMR
from crdtmerge.strategies.evidential.bmm import BMM
from crdtmerge.strategies.evidential.categories import SOCE
from crdtmerge.strategies.evidential.elections import LED_MERGE, OTA_FFG
from crdtmerge.strategies.evidential.fisher import FISHER, UBGM
from crdtmerge.strategies.evidential.lot import LOT
from crdtmerge.strategies.evidential.mats import MATS
from crdtmerge.strategies.evidential.metrics import LM_COCKTAIL, MWA
from crdtmerge.strategies.evidential.regmean import REGMEAN, REGMEAN_PP
from crdtmerge.strategies.geometric_median import CENTERED_CLIP, GEOMETRIC_MEDIAN
from crdtmerge.strategies.geometry import NUSLERP, SLERP
from crdtmerge.strategies.krum import KRUM, MULTI_KRUM
from crdtmerge.strategies.layer_swap import LAYER_SWAP
from crdtmerge.strategies.linear import LINEAR
from crdtmerge.strategies.magmax import MAGMAX
from crdtmerge.strategies.median import MEDIAN
from crdtmerge.strategies.metagpt import METAGPT
from crdtmerge.strategies.model_stock import MODEL_STOCK
from crdtmerge.strategies.nearswap import NEARSWAP
from crdtmerge.strategies.passthrough import PASSTHROUGH
from crdtmerge.strategies.pcb import PCB
from crdtmerge.strategies.ram import RAM, RAMPLUS_TL
from crdtmerge.strategies.sce import SCE
from crdtmerge.strategies.series import PMA, WSM
from crdtmerge.strategies.spectral.dc_merge import DC_MERGE
from crdtmerge.strategies.spectral.doge import DOGE
from crdtmerge.strategies.spectral.features import STF
from crdtmerge.strategies.spectral.isotropic import ISO_C, ISO_CTS
from crdtmerge.strategies.spectral.joint import DRM, KNOTS
from crdtmerge.strategies.spectral.lore import LORE
from crdtmerge.strategies.spectral.opcm import OPCM
from crdtmerge.strategies.spectral.star import STAR
from crdtmerge.strategies.spectral.task_singular import TSV_M
from crdtmerge.strategies.spectral.wudi import OPTMERGE, WUDI
from crdtmerge.strategies.sums import Sums
from crdtmerge.strategies.surrogates.adarank import ADARANK
from crdtmerge.strategies.surrogates.fits import (
    ADA_MERGING,
    DAM,
    REPRESENTATION_SURGERY,
)
from crdtmerge.strategies.surrogates.projection import DUAL_PROJECTION
from crdtmerge.strategies.surrogates.safe import SAFE_MERGE
from crdtmerge.strategies.surrogates.scopes import WEIGHT_SCOPE_ALIGNMENT
from crdtmerge.strategies.surrogates.unlearning import (
    NEGATIVE_MERGE,
    SPLIT_UNLEARN_MERGE,
)
from crdtmerge.strategies.tall_masks import CONSENSUS
from crdtmerge.strategies.task_arithmetic import TASK_ARITHMETIC
from crdtmerge.strategies.ties import TIES
from crdtmerge.strategies.trimmed_mean import TRIMMED_MEAN
from crdtmerge.strategies.widen import WIDEN

STRATEGIES: Final[Mapping[str, Strategy]] = MappingProxyType(
    {
        "ada_merging/1": ADA_MERGING,
        "adarank/1": ADARANK,
        "aoe/1": AOE,
        "arcee_fusion/1": ARCEE_FUSION,
        "bmm/1": BMM,
        "breadcrumbs/1": BREADCRUMBS,
        "breadcrumbs_ties/1": BREADCRUMBS_TIES,
        "bulyan/1": BULYAN,
        "cabs/1": CABS,
        "centered_clip/1": CENTERED_CLIP,
        "consensus/1": CONSENSUS,
        "dam/1": DAM,
        "dare_linear/1": DARE_LINEAR,
        "dare_ties/1": DARE_TIES,
        "dc_merge/1": DC_MERGE,
        "della/1": DELLA,
        "della_linear/1": DELLA_LINEAR,
        "doge/1": DOGE,
        "drm/1": DRM,
        "dual_projection/1": DUAL_PROJECTION,
        "emr/1": EMR,
        "fisher/1": FISHER,
        "geometric_median/1": GEOMETRIC_MEDIAN,
        "iso_c/1": ISO_C,
        "iso_cts/1": ISO_CTS,
        "karcher/1": KARCHER,
        "knots/1": KNOTS,
        "krum/1": KRUM,
        "layer_swap/1": LAYER_SWAP,
        "led_merge/1": LED_MERGE,
        "linear/1": LINEAR,
        "lm_cocktail/1": LM_COCKTAIL,
        "lore/1": LORE,
        "lot/1": LOT,
        "magmax/1": MAGMAX,
        "mats/1": MATS,
        "median/1": MEDIAN,
        "metagpt/1": METAGPT,
        "model_stock/1": MODEL_STOCK,
        "multi_krum/1": MULTI_KRUM,
        "multislerp/1": MULTISLERP,
        "mwa/1": MWA,
        "nearswap/1": NEARSWAP,
        "negative_merge/1": NEGATIVE_MERGE,
        "nuslerp/1": NUSLERP,
        "opcm/1": OPCM,
        "optmerge/1": OPTMERGE,
        "ota_ffg/1": OTA_FFG,
        "passthrough/1": PASSTHROUGH,
        "pcb/1": PCB,
        "pma/1": PMA,
        "ram/1": RAM,
        "ramplus_tl/1": RAMPLUS_TL,
        "regmean/1": REGMEAN,
        "regmean_pp/1": REGMEAN_PP,
        "representation_surgery/1": REPRESENTATION_SURGERY,
        "safe_merge/1": SAFE_MERGE,
        "sce/1": SCE,
        "slerp/1": SLERP,
        "soce/1": SOCE,
        "split_unlearn_merge/1": SPLIT_UNLEARN_MERGE,
        "star/1": STAR,
        "stf/1": STF,
        "task_arithmetic/1": TASK_ARITHMETIC,
        "ties/1": TIES,
        "trimmed_mean/1": TRIMMED_MEAN,
        "tsv_m/1": TSV_M,
        "ubgm/1": UBGM,
        "weight_scope_alignment/1": WEIGHT_SCOPE_ALIGNMENT,
        "widen/1": WIDEN,
        "wsm/1": WSM,
        "wudi/1": WUDI,
    }
)

SUMS: Final[Mapping[str, Sums]] = MappingProxyType(
    {
        "breadcrumbs/1": breadcrumbs.LINEAR_SUMS,
        "breadcrumbs_ties/1": breadcrumbs.TIES_SUMS,
        "dare_linear/1": dare.LINEAR_SUMS,
        "dare_ties/1": dare.TIES_SUMS,
        "della/1": della.TIES_SUMS,
        "della_linear/1": della.LINEAR_SUMS,
        "linear/1": linear.SUMS,
        "task_arithmetic/1": task_arithmetic.SUMS,
        "ties/1": ties.SUMS,
    }
)
"""The strategies whose sums take one contribution at a time, by their names above."""


def find(name: str) -> Strategy:
    """Return the strategy called `name`: a versioned name, a name, or an alias.

    Without a version the newest one is meant.

    Raises:
        UnknownNameError: there is none; the hint has the nearest name and the full list.
        PluginError: it is of another package, and refused.
    """
    plain, slash, version = name.partition("/")
    fitting = [
        strategy
        for strategy in STRATEGIES.values()
        if plain in {strategy.name, *strategy.aliases}
        and (not slash or version == str(strategy.version))
    ]
    if fitting:
        return max(fitting, key=lambda strategy: strategy.version)
    full_name = plugins.named(name)
    added = plugins.get(full_name) if full_name else None
    if added is not None:
        return added
    known = [*STRATEGIES, *(s.name for s in STRATEGIES.values())]
    known += [alias for s in STRATEGIES.values() for alias in s.aliases]
    known += [*plugins.installed(), *(n.partition("/")[0] for n in plugins.installed())]
    message = f"there is no strategy {name!r}"
    every = [*sorted(STRATEGIES), *plugins.installed()]
    raise UnknownNameError(message, hint=suggestion(name, known, every))


def known(full_name: str) -> Strategy | None:
    """Return the strategy of a versioned name, as recipes carry it; None if it is not here.

    Raises:
        PluginError: it is of another package, and refused.
    """
    ours = STRATEGIES.get(full_name)
    return plugins.get(full_name) if ours is None else ours


def suggestion(name: str, known: Iterable[str], listed: Iterable[str]) -> str:
    """Return a hint: the nearest known name, if one is near, and the list."""
    near = difflib.get_close_matches(name.lower(), sorted(known), n=1)
    asked = f"did you mean {near[0]!r}? " if near else ""
    return f"{asked}known: {', '.join(listed) or 'none'}"
