"""The sky and what rises above the horizon far away."""

from __future__ import annotations

import numpy as np

from eval.simulation.sensing.conditions import Conditions


def sky_colour(light: Conditions, rays: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Radiance ``[N, 3]`` along rays ``[3, N]`` (global axes, any length): gradient, clouds, a hazy skyline.

    noise ``[256, 256]``: see `cloud_noise`.
    """
    level = np.hypot(rays[0], rays[1])
    rise = rays[2] / np.maximum(level, 1e-6)  # tangent of the elevation
    high = np.clip(rise / 0.6, 0.0, 1.0)[:, None]
    horizon, zenith = (np.array(c, dtype=np.float32) for c in (light.horizon, light.zenith))
    out = horizon * (1 - high) + zenith * high
    # Clouds lie on a plane: the flatter the view, the closer they stand together.
    u, v = (rays[i] / np.maximum(np.abs(rays[2]) + 0.12 * level, 1e-6) * 12 for i in (0, 1))
    cloud = noise[u.astype(np.int64) % len(noise), v.astype(np.int64) % len(noise)]
    cover = np.clip((cloud - (1 - light.clouds)) * 3.0, 0.0, 1.0)[:, None] * np.clip(rise / 0.05, 0.0, 1.0)[:, None]
    out = out * (1 - 0.7 * cover) + 0.7 * cover * (0.3 * horizon + 0.7 * max(light.horizon))
    around = ((np.arctan2(rays[1], rays[0]) / (2 * np.pi) + 0.5) * 256).astype(np.int64) % 256
    skyline = 0.01 + 0.09 * noise[:256, 7][around] ** 3
    far = rise < skyline
    out[far] = 0.55 * horizon + 0.45 * np.array([0.10, 0.12, 0.12], dtype=np.float32) * max(light.sky)
    return out


def cloud_noise(rng: np.random.Generator) -> np.ndarray:
    """``[256, 256]`` float32 in [0, 1]: smooth noise that repeats side by side."""
    field = np.zeros((256, 256))
    for cells, weight in ((8, 0.5), (32, 0.3), (128, 0.2)):
        field += weight * np.kron(rng.random((cells, cells)), np.ones((256 // cells, 256 // cells)))
    for axis in (0, 1):
        field = np.mean([np.roll(field, k, axis) for k in range(-3, 4)], axis=0)
    low, high = np.quantile(field, [0.02, 0.98])
    return np.clip((field - low) / (high - low), 0, 1).astype(np.float32)
