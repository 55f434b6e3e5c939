"""What a fork must not cut in two.

A child is a copy of the one thread that forked.  A lock that another thread held at that moment is locked in the child
for ever, so this package holds locks only where it can make a fork wait, and has a `cached_property` without one.

A generator of NumPy is locked while numbers are drawn from it, and other threads of Python run meanwhile.  Were one of
them to fork then, the child's next random number would never come: with NumPy's own generator, which a fit without a
seed draws from, whatever the child does.  So a fork waits for the draw to end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import RLock
from typing import Any

# held while the engine or NumPy draws many numbers; one that may be taken twice, because a signal's handler may fork
drawing = RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=drawing.acquire, after_in_parent=drawing.release, after_in_child=drawing.release)


class cached_property:
    """What `functools.cached_property` is from Python 3.12 on: it has no lock.

    Two threads may both work the value out, which must be the same.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function, self.__doc__ = function, function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._function(instance)
        return value
