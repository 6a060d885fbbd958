from __future__ import annotations

from noria.base.errors import Failed, Invalid, Unavailable


class TrainingInvalid(Invalid):
    """A model is declared in a way that cannot be trained."""

    code = "training_invalid"


class TooFewRows(Failed):
    """A part of the split holds too few rows to learn from or to judge by."""

    code = "too_few_rows"


class ColumnUnfit(Invalid):
    """A feature has a type that models do not take."""

    code = "column_unfit"


class ModelUnfit(Invalid):
    """A function returned something that is no model of a safe format."""

    code = "model_unfit"


class PackageDamaged(Unavailable):
    """A model package is not what was registered."""

    code = "package_damaged"


class PackageForeign(Invalid):
    """A model package was logged by a client of MLflow, and says nothing of what noria needs to serve it."""

    code = "package_foreign"


class MetricUnknown(Invalid):
    """There is no metric of this name."""

    code = "metric_unknown"


class SignatureUnfit(Invalid):
    """A model of MLflow does not say which rows it takes, or takes something that is no row."""

    code = "signature_unfit"


class ModelApartFailed(Failed):
    """A model in a process of its own could not be loaded, raised, or its process died."""

    code = "model_failed"


class AdoptionInvalid(Invalid):
    """A model of MLflow's client cannot be adopted with what was said."""

    code = "adoption_invalid"
