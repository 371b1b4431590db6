"""Whether a strategy can use the weights and parameters of a merge: tried on nothing.

Owns finding out before any tensor is read. Does not own what a strategy refuses
(`strategies`), nor limits that hold for all (`plan`).

A strategy judges weights and parameters where it uses them. So each different setting is
tried once on tensors without items: what is refused there would be refused at the first
tensor of the model, when much was read already. What depends on values shows later.
"""

from collections.abc import Iterable

from crdtmerge.resolve.ground import Frame
from crdtmerge.resolve.settings import Settings
from crdtmerge.strategies import Inputs, Strategy, Values, has_reduce

SEED_BYTES = 32


def check_settings(
    strategy: Strategy, settings: Settings, frames: Iterable[Frame]
) -> None:
    """Refuse what no tensor could be merged with, be it but one of them.

    Raises:
        ContractError: weights or parameters mean nothing to the strategy; the message
            names the first tensor that has them.
    """
    tried = set()
    for frame in frames:
        name = frame.entry.name
        setting = settings.of_tensor(name)
        layer = settings.places[name].layer if strategy.by_layer else None
        key = (setting.parameters, setting.weights, setting.own, layer)
        if frame.is_merged and key not in tried:
            tried.add(key)
            _try(strategy, settings, frame)


def _try(strategy: Strategy, settings: Settings, frame: Frame) -> None:
    setting = settings.of_tensor(frame.entry.name)
    contents = tuple(item.content for item in settings.contributions)
    inputs = Inputs(
        tensor=frame.entry.name,
        dtype=frame.entry.dtype,
        items=0,
        base=None if frame.ground == "none" else b"",
        contributions=(b"",) * len(contents),
        contents=contents,
        weights=setting.weights,
        seed=bytes(SEED_BYTES),
        seed_scope=settings.recipe.seed_scope,
        output_dtype="",
        values=Values(setting.parameters),
        own=tuple(setting.values_of(own) for own in setting.own),
        shape=(0,),
        layer=settings.places[frame.entry.name].layer,
    )
    if not has_reduce(strategy, settings.recipe):
        strategy.emit(inputs)
    elif strategy.map is not None:
        strategy.map(inputs)  # its emit needs what the reduce step finds
