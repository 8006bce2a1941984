"""Whether a module does what its classes and its config say, or somebody has changed it."""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

# What runs when a module is called.
METHODS = ("__call__", "_wrapped_call_impl", "_call_impl", "forward", "_conv_forward")
# Attributes that change nothing in what it gives. Parts and weights are looked at by themselves.
WITHOUT_EFFECT = frozenset(
    {
        "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training", "_internal_dict",
        "gradient_checkpointing", "_gradient_checkpointing_func", "_is_full_backward_hook", "_backward_hooks",
        "_backward_pre_hooks", "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
        "_load_state_dict_post_hooks",
    }
)  # fmt: skip


class Blueprint:
    """What a module consists of as it is built; tells whether another is still like it.

    Args:
        plain: a module that nobody has changed; its weights may be on "meta".
    """

    def __init__(self, plain: nn.Module) -> None:
        self._parts = [_Part(name, part) for name, part in plain.named_modules()]
        self._kinds = {type(part) for part in plain.modules()}

    def fits(self, module: nn.Module) -> bool:
        """Whether calling `module` runs the classes' own methods, with the attributes they were built with.

        Hooks, methods put on an instance or a class, other classes in its tree, parametrizations, changed attributes
        and compiled calls all make a difference; the values of weights do not.
        """
        if torch_module._has_any_global_hook() or not all(map(genuine, self._kinds)):
            return False
        parts = list(module.named_modules())
        return len(parts) == len(self._parts) and all(
            name == plain.name and plain.fits(part) for (name, part), plain in zip(parts, self._parts, strict=True)
        )


class _Part:
    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.kind = name, type(module)
        self._attributes = {key: value for key, value in vars(module).items() if key not in WITHOUT_EFFECT}
        self._weights = _weights(module)

    def fits(self, module: nn.Module) -> bool:
        if type(module) is not self.kind or _weights(module) != self._weights:
            return False
        attributes = vars(module)
        for key, value in self._attributes.items():
            if key not in attributes or not _same(attributes[key], value):
                return False
        more = attributes.keys() - self._attributes.keys() - WITHOUT_EFFECT
        return not any(callable(getattr(self.kind, key, None)) or key == "_compiled_call_impl" for key in more)


def genuine(kind: type, methods: Iterable[str] = METHODS) -> bool:
    """Whether the methods of a class are those of the package that defines it, or torch's."""
    packages = {"torch", _package(kind.__module__)}
    return all(_from(getattr(kind, name), packages) for name in methods if hasattr(kind, name))


def _from(function: Any, packages: set[str]) -> bool:
    """Whether a function, and those that it wraps, are defined in one of `packages`."""
    # `__module__` would not do: wrappers copy it.
    scope = getattr(function, "__globals__", None)
    if scope is None or _package(scope.get("__name__", "")) not in packages:
        return False
    inner = getattr(function, "__wrapped__", None)
    return inner is None or _from(inner, packages)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _weights(module: nn.Module) -> list[tuple[str, type]]:
    """Names and types of what a module itself holds: a subclass of tensor may bring products of its own."""
    return [(name, type(value)) for held in (module._parameters, module._buffers) for name, value in held.items()]


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, FunctionType):
        return one.__code__ is other.__code__
    if isinstance(one, Tensor):
        return one.shape == other.shape
    if type(one).__eq__ is object.__eq__ and hasattr(one, "__dict__"):  # such as attention processors
        return vars(one) == vars(other)
    return bool(one == other)
