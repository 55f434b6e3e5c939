"""Runs that end right after a checkpoint, as if they had been killed there: for the tests of going on."""

from pymlp.checkpoints import Checkpoints


class Killed(BaseException):
    """The process is gone."""


def dying(monkeypatch):
    """A function that makes runs end right after their n-th checkpoint; None lets them live.

    It gives a list of what checkpoints hold, which grows with them.
    """
    keep = Checkpoints.keep

    def after(number):
        written = []

        def keep_and_die(self, run):
            keep(self, run)
            written.append(run)
            if len(written) == number:
                raise Killed

        monkeypatch.setattr(Checkpoints, "keep", keep_and_die)
        return written

    return after
