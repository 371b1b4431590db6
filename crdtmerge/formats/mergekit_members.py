"""Who takes part in a configuration, and with which values of its own.

Owns references to models, their parameters, and each method's rule of who is merged. Does
not own the keys of a configuration (`mergekit`, `mergekit_slices`), nor what values come
to (`mergekit_recipe`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crdtmerge.errors import BadInputError
from crdtmerge.formats.mergekit_chains import Chain, parse_chain
from crdtmerge.formats.mergekit_grammar import check_keys, mapping, reference
from crdtmerge.formats.mergekit_methods import Method
from crdtmerge.formats.mergekit_recipe import Asked
from crdtmerge.formats.yaml_text import Plain


@dataclass(slots=True)
class Members:
    """Reads models and their values for one method; paths are taken from `folder`.

    `notes` collects what is accepted although it changes nothing.
    """

    folder: Path
    method: Method
    notes: list[str] = field(default_factory=list)

    def path(self, value: Plain, place: str) -> Path:
        """Return the folder that a reference names."""
        model, adapter = reference(value, place)
        if adapter:
            message = f"{place}: an adapter changes a model, and this is to be one"
            raise BadInputError(message, hint="list MODEL+ADAPTER among the models")
        return (self.folder / model).resolve()

    def base(self, value: Plain, place: str = "base_model") -> Asked:
        """Return a base_model."""
        name, _ = reference(value, place)
        return Asked(name, self.path(value, place))

    def adapted(self, value: Plain, place: str, base: Path | None) -> Path:
        """Return the folder of a model, or of an adapter on the base_model."""
        model, adapter = reference(value, place)
        if not adapter:
            return self.path(value, place)
        if (self.folder / model).resolve() != base:
            message = f"{place}: the adapter {adapter!r} is not on the base_model"
            hint = "merge it into its model with PEFT, and list that"
            if base is None and not place.startswith("slices"):
                hint += (
                    f"; or say `base_model: {model}` and task_arithmetic, with weight 1"
                    " for what passthrough does"
                )
            raise BadInputError(message, hint=hint)
        return (self.folder / adapter).resolve()

    def asked(self, entry: Mapping[str, Plain], place: str, base: Path | None) -> Asked:
        """Return a model of a list, with its own parameters.

        Those of a base that is skipped are none.
        """
        if entry.get("model") is None:
            raise BadInputError(f"{place}: it lacks `model`")
        path = self.adapted(entry["model"], place, base)
        name, adapter = reference(entry["model"], place)
        name += f"+{adapter}" if adapter else ""
        is_base = self.method.base == "skipped" and path == base
        own = self._own(entry.get("parameters"), place, ignored=is_base)
        return Asked(name, path, own, adapter=bool(adapter))

    def shared(self, value: Plain, place: str) -> dict[str, Chain]:
        """Return the parameters that hold for all models, by mergekit's words."""
        entry = mapping({} if value is None else value, place)
        words = self.method.words
        check_keys(entry, [w.name for w in words], f"{self.method.name}, {place}")
        found = {
            word.name: parse_chain(entry[word.name], word, place)
            for word in words
            if entry.get(word.name) is not None
        }
        self._note_idle(found)
        return found

    def _own(self, value: Plain, place: str, *, ignored: bool) -> dict[str, Chain]:
        """Return the parameters of one model; those of a base that is skipped are none."""
        entry = mapping({} if value is None else value, f"{place}, parameters")
        words = {word.name: word for word in self.method.words}
        own = [name for name, word in words.items() if word.per_model]
        if shared := sorted(entry.keys() & (words.keys() - set(own))):
            message = f"{place}: {shared[0]} holds for the whole merge"
            hint = "give it under the parameters at the top, not of one model"
            raise BadInputError(message, hint=hint)
        check_keys(entry, own, f"{place}, parameters of {self.method.name}")
        found = {
            name: parse_chain(item, words[name], place)
            for name, item in entry.items()
            if item is not None
        }
        if ignored and found:
            self.note(f"the parameters of the base, {place}, play no part")
        else:
            self._note_idle(found)
        return {} if ignored else found

    def taking_part(
        self, listed: Sequence[Asked], base: Asked | None, place: str = ""
    ) -> list[Asked]:
        """Return who takes part, by the rule of the method; `place` is that of a slice.

        In a slice the base takes part only if it is a source of it.

        Raises:
            BadInputError: they are too many or too few, or the base is missing.
        """
        method, prefix = self.method, f"{place}: " if place else ""
        if base is None:
            if method.needs_base:
                message = f"{prefix}{method.name} needs a base_model, and none is given"
                hint = "name the model that all were tuned from"
                raise BadInputError(message, hint=hint)
            return self._counted(listed, prefix)
        others = [item for item in listed if item.path != base.path]
        if place and method.base in {"skipped", "end"} and len(others) == len(listed):
            message = f"{prefix}{method.name} measures from the base_model"
            hint = "list the base_model among the sources, with the layers it gives"
            raise BadInputError(f"{message}, which is no source of it", hint=hint)
        if method.base == "end":
            return [base, *self._other_end(others, prefix)]
        if method.base == "counts" and len(others) == len(listed) and not place:
            return self._counted([*listed, base], prefix)
        return self._counted(others if method.base == "skipped" else listed, prefix)

    def _other_end(self, others: list[Asked], prefix: str) -> list[Asked]:
        if len(others) == 1:
            return others
        message = f"{prefix}{self.method.name} merges the base_model with one other"
        hint = "list the base and one other; for weights use nuslerp"
        raise BadInputError(f"{message} model, not with {len(others)}", hint=hint)

    def _counted(self, models: Sequence[Asked], prefix: str) -> list[Asked]:
        """Refuse a number of models that the method does not merge."""
        method, count = self.method, len(models)
        if not models:
            raise BadInputError(f"{prefix}the base is the only model listed")
        if count < method.least or 0 < method.most < count:
            which = (
                f"exactly {method.most}" if method.most else f"{method.least} or more"
            )
            what = "model" if method.most == 1 else "models"
            what += " beside the base" if method.base == "skipped" else ""
            message = f"{prefix}{method.name} merges {which} {what}, not {count}"
            counts = f"{method.name} counts the base_model as a model"
            raise BadInputError(message, hint=counts if method.base == "counts" else "")
        return list(models)

    def note(self, text: str) -> None:
        """Note once what was accepted although it changes nothing."""
        if text not in self.notes:
            self.notes.append(text)

    def _note_idle(self, given: Mapping[str, Chain]) -> None:
        """Note what mergekit's method takes and does nothing with."""
        for word in self.method.words:
            if word.is_idle and word.name in given:
                self.note(f"{word.name} changes nothing in {self.method.name}")
