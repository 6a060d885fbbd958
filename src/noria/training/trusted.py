"""The types and functions that a stored scikit-learn model may name besides those that skops trusts by itself.

Each stands here by its whole name, because a model may hold a *function* by name and call it on rows: a prefix such
as ``builtins`` would let ``eval`` in, ``numpy`` would let ``numpy.load`` in. What is on the list computes on the
arrays it is given, and opens, imports and evaluates nothing. Found by storing fitted pipelines of each public
estimator; a name is added together with a case in ``tests/training/test_trusted.py``.

``Tree``, ``TreePredictor``, ``KDTree`` and ``BallTree`` hold positions that scikit-learn follows unchecked: a forged
file could end the worker that scores with it. Digests are checked before a package is loaded, and in a worker only.
"""

from __future__ import annotations

from typing import Final

_SKLEARN: Final = {
    "_loss.loss": ("HalfTweedieLoss", "HalfTweedieLossIdentity"),
    "calibration": ("_CalibratedClassifier", "_SigmoidCalibration"),
    "compose._column_transformer": ("make_column_selector",),
    "ensemble._hist_gradient_boosting.predictor": ("TreePredictor",),
    "feature_selection._mutual_info": ("mutual_info_classif", "mutual_info_regression"),
    "feature_selection._univariate_selection": ("chi2", "f_classif", "f_regression", "r_regression"),
    "gaussian_process._gpc": ("_BinaryGaussianProcessClassifierLaplace",),
    "gaussian_process.kernels": (
        "ConstantKernel",
        "DotProduct",
        "Exponentiation",
        "Matern",
        "Product",
        "RationalQuadratic",
        "RBF",
        "Sum",
        "WhiteKernel",
    ),
    "impute._iterative": ("IterativeImputer", "_ImputerTriplet"),
    "metrics._classification": (
        "accuracy_score",
        "balanced_accuracy_score",
        "brier_score_loss",
        "f1_score",
        "log_loss",
        "precision_score",
        "recall_score",
    ),
    "metrics._dist_metrics": ("EuclideanDistance64", "ManhattanDistance64", "MinkowskiDistance64"),
    "metrics._ranking": ("average_precision_score", "roc_auc_score"),
    "metrics._regression": (
        "mean_absolute_error",
        "mean_squared_error",
        "r2_score",
        "root_mean_squared_error",
    ),
    "metrics._scorer": ("_CurveScorer", "_PassthroughScorer", "_Scorer"),
    "model_selection._split": ("GroupKFold", "KFold", "StratifiedKFold", "TimeSeriesSplit"),
    "multiclass": ("_ConstantPredictor",),
    "neighbors._ball_tree": ("BallTree",),
    "neighbors._kd_tree": ("KDTree",),
    "neural_network._stochastic_optimizers": ("AdamOptimizer", "SGDOptimizer"),
    "tree._tree": ("Tree",),
    "utils._bunch": ("Bunch",),
    "utils._metadata_requests": ("MetadataRequest", "MethodMetadataRequest"),
    "utils.validation": ("check_array",),
}

TRUSTED: Final = frozenset(
    {f"sklearn.{module}.{name}" for module, names in _SKLEARN.items() for name in names}
    | {
        "functools.partial",  # around one of these functions; what it wraps is named and checked too
        "numpy.dtype",
        "numpy.mean",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
    }
)
