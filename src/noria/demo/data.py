"""The flights of 2013 as the demo tells them: a schedule known ahead, landings and weather known later.

What becomes known is published at full hours: an observation and a landing count from the next full hour on. So a
prediction at 10:17 sees exactly what was published by 10:00, in bulk and online alike (decision 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl

_UTC = pl.Datetime("us", "UTC")
_PUERTO_RICO = "America/Puerto_Rico"  # four airports there are not in the list of airports


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The tables of the flights project, for the whole year."""

    flights: pl.DataFrame
    landings: pl.DataFrame
    weather: pl.DataFrame
    planes: pl.DataFrame


def load(folder: Path | None = None) -> World:
    """The demo's tables.

    ``flights`` carries nothing that is known after its prediction. Tail numbers count as known when a flight is
    scheduled, which real airlines know only a day ahead; the data does not say when.
    """
    where = folder or Path(str(files("noria.demo") / "nycflights13"))
    raw = pl.read_parquet(where / "flights.parquet")
    zones = pl.read_parquet(where / "airports.parquet").select(dest="faa", zone="tzone")
    raw = raw.join(zones, on="dest", how="left", maintain_order="left").with_columns(
        pl.col("zone").fill_null(_PUERTO_RICO),
        hour_utc=pl.col("time_hour").str.to_datetime(time_zone="UTC", time_unit="us"),
    )
    raw = raw.with_columns(
        flight_id=pl.concat_str(
            pl.col("hour_utc").dt.strftime("%Y%m%dT%H"), pl.col("carrier"), pl.col("flight"), separator="-"
        ),
        scheduled_departure=pl.col("hour_utc") + pl.duration(minutes="minute"),
    )
    flights = raw.select(
        "flight_id", "scheduled_departure", "carrier", "flight", "tailnum", "origin", "dest", "distance"
    ).sort("scheduled_departure", "flight_id")
    landed = raw.filter(pl.col("arr_delay").is_not_null()).with_columns(
        left=pl.col("scheduled_departure") + pl.duration(minutes="dep_delay")
    )
    landed = pl.concat([_landed_at(part, zone) for (zone,), part in landed.group_by("zone", maintain_order=True)])
    landings = landed.select(
        "flight_id",
        "landed_at",
        "carrier",
        "origin",
        "dest",
        arrival_delay="arr_delay",
        departure_delay="dep_delay",
        published_at=_next_hour(pl.col("landed_at")),
    ).sort("published_at", "flight_id")
    return World(flights=flights, landings=landings, weather=_weather(where), planes=_planes(where))


def _landed_at(part: pl.DataFrame, zone: str) -> pl.DataFrame:
    """The landing in UTC: from the local arrival time, which the data gives without a date."""
    local = pl.col("left").dt.convert_time_zone(zone)
    arrival = pl.col("arr_time").cast(pl.Int32) // 100 * 60 + pl.col("arr_time").cast(pl.Int32) % 100
    departure = local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute().cast(pl.Int32)
    minutes = (arrival - departure) % 1440
    return part.with_columns(landed_at=(pl.col("left") + pl.duration(minutes=minutes)).cast(_UTC))


def _next_hour(at: pl.Expr) -> pl.Expr:
    full = at.dt.truncate("1h")
    return pl.when(full == at).then(at).otherwise(full + pl.duration(hours=1))


def _weather(where: Path) -> pl.DataFrame:
    raw = pl.read_parquet(where / "weather.parquet")
    observed = pl.col("time_hour").str.to_datetime(time_zone="UTC", time_unit="us")
    names = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
    made = raw.select("origin", *names, observed_at=observed, published_at=observed + pl.duration(hours=1))
    # The clock went back once that year, and the hour is there twice.
    return made.unique(["origin", "observed_at"], keep="first", maintain_order=True).sort("published_at", "origin")


def _planes(where: Path) -> pl.DataFrame:
    raw = pl.read_parquet(where / "planes.parquet")
    return raw.select("tailnum", built="year", manufacturer="manufacturer", seats="seats").sort("tailnum")


def write_files(world: World, folder: Path, until: datetime) -> None:
    """The months before ``until`` as the files that the project's sources name, one a month."""
    for name, column in (("flights", "scheduled_departure"), ("landings", "published_at"), ("weather", "published_at")):
        frame: pl.DataFrame = getattr(world, name)
        first = prediction_time() if name == "flights" else pl.col(column)
        part = frame.filter(first < until)
        (folder / name).mkdir(parents=True, exist_ok=True)
        for (month,), rows in part.group_by(pl.col(column).dt.strftime("%Y-%m"), maintain_order=True):
            path = folder / name / f"{month}.parquet"
            if not path.exists():
                rows.write_parquet(path)
    if not (folder / "planes.parquet").exists():
        world.planes.write_parquet(folder / "planes.parquet")


def prediction_time() -> pl.Expr:
    """When a flight has to be predicted: two hours before its scheduled departure."""
    return pl.col("scheduled_departure") - pl.duration(hours=2)


def damaged(world: World) -> pl.DataFrame:
    """Landings of one day as a careless export would give them: hours as minutes, an unknown airport, future rows."""
    day = world.landings.filter(pl.col("published_at").dt.date() == date(2013, 3, 8)).head(60)
    number = pl.int_range(pl.len())
    return day.with_columns(
        arrival_delay=pl.when(number % 7 == 0).then(pl.lit(9999, pl.Int16)).otherwise(pl.col("arrival_delay")),
        origin=pl.when(number % 11 == 0).then(pl.lit("JFX")).otherwise(pl.col("origin")),
        published_at=pl.when(number % 13 == 0)
        .then(pl.col("landed_at") - pl.duration(hours=3))
        .otherwise(pl.col("published_at")),
    )


def as_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON values; times as RFC 3339 in UTC."""
    times = [
        pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        for name, kind in frame.schema.items()
        if isinstance(kind, pl.Datetime)
    ]
    return frame.with_columns(times).to_dicts()
