"""Small estimators, quick to fit, and callbacks that act at the end of an epoch: for the tests of fitting."""

import pickle

from pymlp import MLPClassifier, MLPRegressor

CLASSES = {"classifier": MLPClassifier, "regressor": MLPRegressor}


def small(cls=MLPClassifier, **parameters):
    """An unfitted estimator that fits in milliseconds."""
    return cls(**{"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0, **parameters})


def state_of(model):
    """All attributes in a form that compares by value, but for the seconds each epoch took."""
    values = dict(vars(model))
    if "history_" in values:
        values["history_"] = {**values["history_"], "seconds": len(values["history_"]["seconds"])}
    return {name: pickle.dumps(value) for name, value in values.items()}


class Stopper:
    """A callback that does something at the end of an epoch."""

    def __init__(self, at_end):
        self.at_end = at_end

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        return context.task_name == "epoch" and self.at_end(context.task_id, fitted_estimator)

    def teardown(self, estimator, context):
        pass


def interrupt_in(epoch):
    def at_end(number, fitted_estimator):
        if number == epoch:
            raise KeyboardInterrupt

    return Stopper(at_end)
