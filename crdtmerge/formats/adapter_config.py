"""`adapter_config.json` of PEFT: what it says, and what of it we do not merge.

Owns the parsing, and the list of what is refused by name. Does not own weights
(`adapter`). What a later PEFT may add is refused where it is switched on, never ignored:
an adapter merged without it would be another one.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.rules import matches

CONFIG_BYTES_MAX: Final = 1 << 20
RANK_MAX: Final = 1 << 16
DEFAULT: Final = 8
"""What PEFT takes for r and lora_alpha where an older version did not write them."""

_REFUSED: Final[Mapping[str, str]] = {
    "use_dora": "DoRA (use_dora)",
    "use_qalora": "QA-LoRA (use_qalora)",
    "use_bdlora": "block-diagonal LoRA (use_bdlora)",
    "lora_bias": "biases of the factors (lora_bias)",
    "layer_replication": "replicated layers (layer_replication)",
    "target_parameters": "LoRA on bare parameters (target_parameters)",
    "trainable_token_indices": "trained tokens (trainable_token_indices)",
    "megatron_config": "Megatron layers (megatron_config)",
    "arrow_config": "Arrow routing (arrow_config)",
    "alora_invocation_tokens": "activated LoRA (alora_invocation_tokens)",
    "loftq_config": "LoftQ (loftq_config), which changes the base",
}
_HARMLESS: Final = frozenset(
    {
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "merge_weights",
        "modules_to_save",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)
"""Keys that are read here, or say only how the adapter was trained."""

_CHANGE_BASE: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that train against a changed base; pissa has variants after it."""


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What of a LoRA config says how its factors act."""

    default_rank: int
    default_alpha: float
    ranks: Mapping[str, float]
    alphas: Mapping[str, float]
    use_rslora: bool
    fan_in_fan_out: bool
    base_name: str

    def rank(self, module: str) -> int:
        """Return the rank of a module's pair."""
        return int(_matching(self.ranks, module, self.default_rank))

    def alpha(self, module: str) -> float:
        """Return the alpha of a module's pair."""
        return _matching(self.alphas, module, self.default_alpha)


def read_config(path: Path) -> AdapterConfig:
    """Return what the config at `path` says.

    Raises:
        BadInputError: it is damaged, of another method than LoRA, or switches on
            something that cannot be merged, which is named.
    """
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise BadInputError(
                f"{path} is above the limit of {CONFIG_BYTES_MAX} bytes"
            )
        value = json.loads(path.read_bytes())
    except OSError as e:
        raise BadInputError(f"cannot read {path}: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise BadInputError(f"{path} is not JSON") from e
    if not isinstance(value, dict):
        raise BadInputError(f"{path} is not a JSON object")
    _refuse(path, value)
    return _config(path, value)


def _refuse(path: Path, value: Mapping[str, object]) -> None:
    method = value.get("peft_type")
    if method != "LORA":
        raise _unsupported(path, f"the method {method!r}, not LORA")
    for key, what in value.items():
        if key in _REFUSED and what:
            raise _unsupported(path, _REFUSED[key])
        if key not in _REFUSED and key not in _HARMLESS and what:
            raise _unsupported(path, f"{key!r}, which this version does not know")
    start = value.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGE_BASE):
        hint = "save it with PEFT's path_initial_model_for_weight_conversion"
        what = f"init_lora_weights={start!r}, which trains against a changed base"
        raise _unsupported(path, what, hint)


def _unsupported(path: Path, what: str, hint: str = "") -> BadInputError:
    merged = "merge the adapter into its base with PEFT, and contribute the whole model"
    message = f"the adapter in {path.parent} uses {what}: that is not supported"
    return BadInputError(message, hint=hint or merged)


def _config(path: Path, value: Mapping[str, object]) -> AdapterConfig:
    rank, alpha = value.get("r", DEFAULT), value.get("lora_alpha", DEFAULT)
    if not _is_rank(rank):
        raise BadInputError(f"{path} has no rank r of 1 to {RANK_MAX}")
    base = value.get("base_model_name_or_path")
    return AdapterConfig(
        default_rank=int(_number(path, "r", rank)),
        default_alpha=_number(path, "lora_alpha", alpha),
        ranks=_pattern(path, "rank_pattern", value.get("rank_pattern")),
        alphas=_pattern(path, "alpha_pattern", value.get("alpha_pattern")),
        use_rslora=value.get("use_rslora") is True,
        fan_in_fan_out=value.get("fan_in_fan_out") is True,
        base_name=base if isinstance(base, str) else "",
    )


def _is_rank(value: object) -> bool:
    return (
        isinstance(value, int) and not isinstance(value, bool) and 0 < value <= RANK_MAX
    )


def _number(path: Path, key: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value) if abs(value) < 2**53 else math.inf
        if math.isfinite(number):
            return number
    raise BadInputError(f"{path}: {key} is {value!r}, not a number")


def _pattern(path: Path, key: str, value: object) -> dict[str, float]:
    """Return a mapping from patterns of module names to numbers."""
    if not value:
        return {}
    if not isinstance(value, dict):
        raise BadInputError(f"{path}: {key} is not a mapping")
    for pattern, number in value.items():
        try:
            matches(pattern, "")
            matches(_ending(pattern), "")
        except BadInputError as e:
            message = f"{path}: {key} has the pattern {pattern!r:.200}, which is none"
            raise BadInputError(message, hint=e.hint) from e
        if key == "rank_pattern" and not _is_rank(number):
            raise BadInputError(f"{path}: {key} gives {pattern!r} the rank {number!r}")
    return {pattern: _number(path, key, number) for pattern, number in value.items()}


def _matching(patterns: Mapping[str, float], module: str, default: float) -> float:
    """Return what the first pattern says that is, or ends, the module's name."""
    for pattern, number in patterns.items():
        if matches(_ending(pattern), module):
            return number
    return default


def _ending(pattern: str) -> str:
    """Return the expression for the names that a pattern is, or ends.

    SUBTLE: PEFT matches with Python's expressions, of which some take for ever. RE2's are
    linear in the name, and an adapter may be anybody's.
    """
    return rf"(?:.*\.)?(?:{pattern})"
