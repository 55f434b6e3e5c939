"""Option objects: what may stand where a name of a choice may, with the choice's own parameters.

``solver=AdamW(weight_decay=0.1)``, ``learning_rate=Cosine(warmup=5)``: each is a small record that stores exactly what
it is given and speaks scikit-learn's ``get_params``/``set_params``, so that ``clone``, pickle, an estimator's HTML view
and a search over ``solver__weight_decay`` take it for one of theirs.  scikit-learn itself is not needed.

A record is checked when it is made, and as a whole when `set_params` changes it; nothing else can change it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, dataclass_transform

import numpy as np

Kind = TypeVar("Kind", bound=type)

# the kinds of option objects by name
OPTIONS: dict[str, type] = {}


def _get_params(self: Any, deep: bool = True) -> dict[str, Any]:
    """Parameters by name; `deep` is scikit-learn's, and no parameter here has parameters of its own."""
    return {field.name: getattr(self, field.name) for field in fields(self)}


def _set_params(self: Any, **params: Any) -> Any:
    """Change parameters in place; ValueError if one is unknown or out of range, and then none is changed."""
    known = self.get_params()
    for name in params:
        if name not in known:
            raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has: {', '.join(known)}")
    checked = replace(self, **params)
    for name in params:
        object.__setattr__(self, name, getattr(checked, name))
    return self


def _repr(self: Any) -> str:
    """As one would write it: what differs from its default, as scikit-learn shows an estimator."""
    changed = [
        f"{field.name}={getattr(self, field.name)!r}"
        for field in fields(self)
        if repr(getattr(self, field.name)) != repr(field.default)
    ]
    return f"{type(self).__name__}({', '.join(changed)})"


@dataclass_transform(frozen_default=True)
def option(kind: Kind) -> Kind:
    """Make a class with annotated fields an option object: a frozen dataclass with ``get_params`` and ``set_params``.

    Its ``__post_init__``, where it has one, checks the fields and leaves them as they are.
    """
    kind.get_params, kind.set_params, kind.__repr__ = _get_params, _set_params, _repr
    made = dataclass(frozen=True, repr=False)(kind)
    OPTIONS[kind.__name__] = made
    return made


def is_option(value: Any) -> bool:
    """Whether `value` is an option object (not the class of one)."""
    return OPTIONS.get(type(value).__name__) is type(value)


def describe(value: Any) -> dict[str, Any]:
    """An option object as a dict that `from_description` reads (JSON-ready)."""
    return {
        "option": type(value).__name__,
        "parameters": {name: of_python(parameter) for name, parameter in value.get_params().items()},
    }


def of_python(value: Any) -> Any:
    """Numbers and lists of Python in place of NumPy's, which JSON does not know."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [of_python(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def from_description(description: dict[str, Any], kinds: Iterable[type]) -> Any:
    """The option object that `describe` described, of one of these kinds.

    The kinds are those of a registry: a description may come from anywhere, and there are option objects that hold the
    address of code.

    Raises
    ------
    ValueError
        It is of no such kind, or a parameter is unknown or does not fit.
    """
    kind = next((kind for kind in kinds if kind.__name__ == description.get("option")), None)
    parameters = description.get("parameters")
    if kind is None or set(description) != {"option", "parameters"} or not isinstance(parameters, dict):
        raise ValueError(f"not the description of an option object: {description!r}")
    unknown = sorted(set(parameters) - {field.name for field in fields(kind)})
    if unknown:
        raise ValueError(f"{kind.__name__} has no parameter {unknown[0]!r}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in parameters.items()})


def check_number(
    name: str, value: Any, low: float, high: float, *, low_open: bool = False, high_open: bool = False
) -> None:
    """ValueError, with the interval, if `value` is not a number in it."""
    try:
        fits = not isinstance(value, (str, bool)) and (
            (low < value if low_open else low <= value) and (value < high if high_open else value <= high)
        )
    except (TypeError, ValueError):
        # not to be compared with a number, or an array
        fits = False
    if not fits:
        interval = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        raise ValueError(f"{name} must be in {interval}, got {value!r}")
