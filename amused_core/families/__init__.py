"""The families of models that the pack runs; another one is a record in `FAMILIES`."""

from ..errors import CheckpointError, quoted
from .amused import AMUSED
from .family import Family

# By the class name of the transformer.
FAMILIES: dict[str, Family] = {AMUSED.classes["transformer"]: AMUSED}


def family_of(class_name: object) -> Family:
    """The family of a transformer's class.

    Raises:
        CheckpointError: no family has it.
    """
    family = FAMILIES.get(class_name) if isinstance(class_name, str) else None
    if family is None:
        raise CheckpointError(
            f"The transformer is a {quoted(class_name)}; allowed are {', '.join(map(repr, FAMILIES))}."
        )
    return family


__all__ = ["AMUSED", "FAMILIES", "Family", "family_of"]
