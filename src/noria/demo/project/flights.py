"""Will this flight arrive more than 15 minutes late? We have to say so two hours before it is to leave."""

import polars as pl
from lightgbm import LGBMClassifier

import noria as nr

# Where rows come from. A row of weather or of a landing counts from the moment on which it was published.
flights = nr.source("flights", files="data/flights/*.parquet", key="flight_id", time="scheduled_departure")
weather = nr.source(
    "weather", files="data/weather/*.parquet", key=("origin", "observed_at"), time="observed_at", known="published_at"
)
landings = nr.source(
    "landings", files="data/landings/*.parquet", key="flight_id", time="landed_at", known="published_at"
)
planes = nr.source("planes", files="data/planes.parquet", key="tailnum")

two_hours_before = pl.col("scheduled_departure") - pl.duration(hours=2)
is_late = pl.col("arrival_delay") > 15


@nr.features(of=flights, at=two_hours_before)
def trip(flights: pl.LazyFrame, weather, landings, planes) -> pl.LazyFrame:
    """What is known two hours before departure: one row a flight, in bulk and for a single request alike."""
    seen = nr.asof(
        flights,
        weather,
        on="origin",
        at=two_hours_before,
        tolerance="6h",
        columns=["temp", "dewp", "wind_speed", "precip", "pressure", "visib"],
    )
    seen = nr.asof(seen, planes, on="tailnum", at=two_hours_before, columns=["built", "seats"])
    seen = nr.history(
        seen,
        landings,
        on="origin",
        at=two_hours_before,
        window="4h",
        airport_late=("mean", is_late),
        airport_delay=("mean", "arrival_delay"),
        airport_landed="count",
    )
    seen = nr.history(
        seen,
        landings,
        on="carrier",
        at=two_hours_before,
        window="1d",
        carrier_late=("mean", is_late),
        carrier_delay=("mean", "arrival_delay"),
    )
    seen = nr.history(
        seen, landings, on=["origin", "dest"], at=two_hours_before, window="7d", route_late=("mean", is_late)
    )
    local = pl.col("scheduled_departure").dt.convert_time_zone("America/New_York")
    return seen.select(
        "flight_id",
        "carrier",
        "origin",
        "dest",
        "distance",
        "seats",
        "temp",
        "dewp",
        "wind_speed",
        "precip",
        "pressure",
        "visib",
        "airport_late",
        "airport_delay",
        "airport_landed",
        "carrier_late",
        "carrier_delay",
        "route_late",
        age=local.dt.year() - pl.col("built"),
        minute_of_day=local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute(),
        weekday=local.dt.weekday(),
    )


@nr.labels(of=flights, after="2d")
def late(landings: pl.LazyFrame) -> pl.LazyFrame:
    """The truth, two days after departure at the latest. A flight that never lands is counted, not guessed."""
    return landings.select("flight_id", late=is_late)


@nr.model(
    features=trip,
    target=late,
    split=nr.split.time(valid="7d", test="14d", gap="1d", train="100d"),
    metrics=["log_loss", "roc_auc"],
    search={
        "learning_rate": nr.space.log(0.02, 0.2),
        "num_leaves": nr.space.ints(7, 63),
        "min_child_samples": nr.space.ints(20, 300),
    },
    trials=8,
    gates=[nr.gate.beats_champion(), nr.gate.slices("origin", roc_auc=0.55)],
    retrain=[nr.when.every("month"), nr.when.drift(0.2), nr.when.worse(by=0.15)],
    budget=nr.when.budget(runs=2, per="30d", pause="10d"),
)
def delay_model(
    train: nr.Rows, valid: nr.Rows, *, learning_rate: float = 0.05, num_leaves: int = 31, min_child_samples: int = 100
):
    """Any model with fit and predict would do, a scikit-learn pipeline for instance."""
    model = LGBMClassifier(
        n_estimators=150,
        learning_rate=learning_rate,
        num_leaves=num_leaves,
        min_child_samples=min_child_samples,
        n_jobs=1,
        verbose=-1,
        random_state=0,
        deterministic=True,
    )
    return model.fit(train.X, train.y, eval_X=valid.X, eval_y=valid.y)


@nr.check(delay_model)
def good_at_every_airport(evaluation: nr.Evaluation):
    assert evaluation.by("origin")["roc_auc"].min() > 0.55


delays = nr.endpoint(
    "delays",
    model=delay_model,
    p99_ms=250,
    release=nr.release.canary([0.1, 0.5, 1.0], shadow=True, margin=0.005, hold=1000, longest="28d"),
)
