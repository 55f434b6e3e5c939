"""What a fork must not cut in two.

A generator of NumPy is locked while numbers are drawn from it, and other threads of Python run meanwhile.  Were one of
them to fork then, the child would have the lock and not the thread that opens it: with NumPy's own generator, which a
fit without a seed draws from, the child's next random number would never come.  So a fork waits for the draw to end.
"""

from __future__ import annotations

import os
from threading import RLock

# held while the engine or NumPy draws many numbers; one that may be taken twice, because a signal's handler may fork
drawing = RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=drawing.acquire, after_in_parent=drawing.release, after_in_child=drawing.release)
