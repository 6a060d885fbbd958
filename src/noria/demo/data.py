"""The flights of 2013 as the demo tells them: a schedule known ahead, landings and weather known later.

What becomes known is published at full hours: an observation and a landing count from the next full hour on. So a
prediction at 10:17 sees exactly what was published by 10:00, in bulk and online alike (decision 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

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
