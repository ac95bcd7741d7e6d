"""Light and weather of a drive, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

KINDS = ("clear", "overcast", "low_sun", "rain", "dusk", "night")
SHARES = (0.34, 0.26, 0.14, 0.12, 0.08, 0.06)
"""How often each kind is drawn where none is asked for."""
FAINT = 0.06
"""Sunlight up to this (of 1) throws no shadow."""


@dataclass(frozen=True)
class Conditions:
    """The light of a whole drive; colours are linear RGB.

    kind: one of KINDS. to_sun ``[3]``: unit vector towards the sun (global frame). sun, sky ``[3]``: irradiance on a
    surface that faces the sun, and from the whole sky; 1 makes a white surface white. horizon, zenith ``[3]``: colours
    of the sky. clouds: share of it that is covered. visibility (m): distance at which 1/e of a colour is left.
    wetness: 0 dry, 1 wet road. lamps: strength of the own headlights. noise: of the pixels, standard deviation of 255.
    """

    kind: str
    to_sun: tuple[float, float, float]
    sun: tuple[float, float, float]
    sky: tuple[float, float, float]
    horizon: tuple[float, float, float]
    zenith: tuple[float, float, float]
    clouds: float = 0.3
    visibility: float = 600.0
    wetness: float = 0.0
    lamps: float = 0.0
    noise: float = 2.0


# Sun's elevation (degrees, from and to), sun, sky, horizon and zenith (linear RGB), clouds, visibility, noise.
_KIND = {
    "clear": ((40, 75), (0.95, 0.9, 0.8), (0.3, 0.35, 0.42), (0.7, 0.78, 0.85), (0.2, 0.36, 0.66), 0.35, 900, 1.5),
    "overcast": ((50, 80), (0.05, 0.05, 0.05), (0.72, 0.74, 0.78), (0.75, 0.77, 0.8), (0.6, 0.63, 0.68), 1.0, 500, 1.8),
    "low_sun": ((12, 25), (1.05, 0.8, 0.52), (0.26, 0.3, 0.4), (0.95, 0.78, 0.58), (0.28, 0.4, 0.62), 0.4, 500, 1.8),
    "rain": ((50, 80), (0.02, 0.02, 0.02), (0.5, 0.53, 0.58), (0.52, 0.55, 0.58), (0.42, 0.45, 0.5), 1.0, 160, 2.5),
    "dusk": ((5, 10), (0.1, 0.07, 0.05), (0.2, 0.2, 0.27), (0.42, 0.3, 0.26), (0.12, 0.15, 0.26), 0.6, 400, 3.0),
    "night": ((50, 80), (0.0, 0.0, 0.0), (0.045, 0.042, 0.05), (0.05, 0.045, 0.045), (0.01, 0.01, 0.02), 0.5, 300, 4.0),
}  # fmt: skip


def draw_conditions(rng: np.random.Generator, kind: str = "any") -> Conditions:
    """Conditions of a kind ("any": drawn by SHARES), with sun, brightness, tint and haze varied.

    Raises ValueError for an unknown kind.
    """
    if kind not in (*KINDS, "any"):
        raise ValueError(f"weather: expected one of {', '.join(KINDS)} or any, got {kind!r}")
    kind = str(rng.choice(KINDS, p=SHARES)) if kind == "any" else kind
    elevations, sun, sky, horizon, zenith, clouds, visibility, noise = _KIND[kind]
    elevation, azimuth = np.deg2rad(rng.uniform(*elevations)), rng.uniform(-np.pi, np.pi)
    to_sun = (np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation))
    brightness = rng.uniform(0.8, 1.2)
    tint = rng.uniform(0.94, 1.06, 3)
    out = Conditions(
        kind=kind,
        to_sun=_triple(np.array(to_sun)),
        sun=_triple(brightness * tint * sun),
        sky=_triple(brightness * tint * sky),
        horizon=_triple(brightness * tint * horizon),
        zenith=_triple(brightness * tint * zenith),
        clouds=float(np.clip(clouds * rng.uniform(0.5, 1.5), 0.0, 1.0)),
        visibility=float(visibility * rng.uniform(0.6, 1.5)),
        noise=float(noise * rng.uniform(0.6, 1.4)),
    )
    if kind == "rain":
        return replace(out, wetness=float(rng.uniform(0.5, 1.0)), lamps=0.1)
    return replace(out, lamps={"dusk": 0.35, "night": 1.0}.get(kind, 0.0))


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c
