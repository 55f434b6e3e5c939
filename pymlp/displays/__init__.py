"""Pictures of a model, in scikit-learn's "Display" style: computed by `from_estimator`, drawn by `plot`, kept as data.

Each has ``ax_`` and ``figure_`` once drawn, takes an ``ax`` to draw into, and needs matplotlib only then.  For the
regions of a classifier over two features see `sklearn.inspection.DecisionBoundaryDisplay`, which takes pymlp's
estimators as they are.
"""
