"""Second readings of all formulas, in plain NumPy: none shares code with the library.

Owns the table of oracles, by name and version.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from tests.oracles import (
    averages,
    evidential,
    grams,
    joint,
    robust,
    sequential,
    series,
    sparse,
    spectra,
    supports,
)
from tests.oracles.case import Case, Floats

Oracle: TypeAlias = Callable[[Case], Floats]

ORACLES: Mapping[str, Oracle] = {
    "aoe/1": averages.aoe,
    "arcee_fusion/1": averages.arcee_fusion,
    "bmm/1": grams.bmm,
    "breadcrumbs/1": sparse.breadcrumbs,
    "breadcrumbs_ties/1": sparse.breadcrumbs_ties,
    "bulyan/1": robust.bulyan,
    "cabs/1": supports.cabs,
    "centered_clip/1": robust.centered_clip,
    "consensus/1": supports.consensus,
    "dare_linear/1": sparse.dare_linear,
    "dare_ties/1": sparse.dare_ties,
    "dc_merge/1": spectra.dc_merge,
    "della/1": sparse.della,
    "della_linear/1": sparse.della_linear,
    "doge/1": sequential.doge,
    "drm/1": joint.drm,
    "emr/1": supports.emr,
    "fisher/1": evidential.fisher,
    "geometric_median/1": robust.geometric_median,
    "iso_c/1": spectra.iso_c,
    "iso_cts/1": spectra.iso_cts,
    "karcher/1": averages.karcher,
    "knots/1": joint.knots,
    "krum/1": robust.krum,
    "layer_swap/1": averages.layer_swap,
    "linear/1": averages.linear,
    "lm_cocktail/1": evidential.lm_cocktail,
    "lore/1": spectra.lore,
    "lot/1": grams.lot,
    "magmax/1": supports.magmax,
    "mats/1": grams.mats,
    "median/1": robust.median,
    "metagpt/1": sparse.metagpt,
    "model_stock/1": averages.model_stock,
    "multi_krum/1": robust.multi_krum,
    "multislerp/1": averages.multislerp,
    "mwa/1": evidential.mwa,
    "nearswap/1": averages.nearswap,
    "nuslerp/1": averages.nuslerp,
    "opcm/1": sequential.opcm,
    "passthrough/1": averages.passthrough,
    "pcb/1": supports.pcb,
    "pma/1": series.pma,
    "ram/1": supports.ram,
    "ramplus_tl/1": supports.ramplus_tl,
    "regmean/1": grams.regmean,
    "sce/1": supports.sce,
    "slerp/1": averages.slerp,
    "star/1": spectra.star,
    "task_arithmetic/1": sparse.task_arithmetic,
    "ties/1": sparse.ties,
    "trimmed_mean/1": robust.trimmed_mean,
    "tsv_m/1": spectra.tsv_m,
    "ubgm/1": evidential.ubgm,
    "widen/1": supports.widen,
    "wsm/1": series.wsm,
}
