"""One camera image: the page that turns a world into pixels.

rays -> ground -> boxes (depth buffer) -> colours in light -> haze -> exposure and noise. Plain arrays, no renderer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.simulation.lidar_solids import NOBODY, Material, Solids
from eval.simulation.sensing.appearance import (
    BOTTOM,
    FRONT,
    LEFT,
    REAR,
    RIGHT,
    TOP,
    base_colours,
    emitted_and_reflected,
)
from eval.simulation.sensing.conditions import FAINT, Conditions
from eval.simulation.sensing.depth_buffer import Hits, first_hits
from eval.simulation.sensing.sky import sky_colour
from eval.simulation.sensing.street import Street

FAR = 250.0
"""Depth (m) beyond which the ground is not told from the horizon."""
SHADOW_REACH = 45.0
"""m from the camera within which road users cast shadows."""


@dataclass(frozen=True)
class Stage:
    """What a camera looks at: boxes of the global frame at the moment of exposure, the ground (flat, at height 0), the
    light, noise for the clouds, the number that decides all paint. shaded ``[N]`` bool: boxes in a still shadow."""

    solids: Solids
    shaded: np.ndarray
    street: Street
    light: Conditions
    clouds: np.ndarray
    name_hash: int


def photograph(
    stage: Stage,
    global_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    size: tuple[int, int],
    rng: np.random.Generator,
    samples: int = 1,
) -> tuple[np.ndarray, Hits]:
    """The image ``[H, W, 3]`` uint8, and what every sample sees (rows of ``samples * size``).

    global_from_camera ``[4, 4]``; intrinsics ``[3, 3]`` pixels; size: H, W. samples: rays per pixel along each axis.
    """
    finer = np.diag([samples, samples, 1.0]) @ intrinsics
    grid = (size[0] * samples, size[1] * samples)
    rays = _rays(finer, grid, global_from_camera[:3, :3])
    position = global_from_camera[:3, 3]
    ground = _ground_depth(rays, position[2])
    hits = first_hits(stage.solids, np.linalg.inv(global_from_camera), finer, grid, rays, ground)
    radiance = np.empty((len(ground), 3), dtype=np.float32)
    boxed, sky = hits.box >= 0, np.isinf(hits.depth)
    floor = np.flatnonzero(~boxed & ~sky)
    radiance[sky] = sky_colour(stage.light, rays[:, sky], stage.clouds)
    radiance[floor] = _ground(stage, rays[:, floor], hits.depth[floor], position, float(finer[0, 0]))
    on_box = np.flatnonzero(boxed)
    radiance[on_box] = _boxes(stage, hits.box[on_box], rays[:, on_box], hits.depth[on_box], position)
    solid = np.flatnonzero(~sky)
    distance = hits.depth[solid] * np.sqrt((rays[:, solid] ** 2).sum(0))
    left = np.exp(-distance / np.float32(stage.light.visibility))[:, None]
    horizon = np.array(stage.light.horizon, dtype=np.float32)
    radiance[solid] = radiance[solid] * left + horizon * (1 - left)
    if samples > 1:
        radiance = radiance.reshape(size[0], samples, size[1], samples, 3).mean((1, 3))
    return _exposed(radiance.reshape(*size, 3), stage.light, rng), hits


def _rays(intrinsics: np.ndarray, size: tuple[int, int], global_from_camera: np.ndarray) -> np.ndarray:
    """``[3, H*W]`` float32: global direction per unit of depth through the middle of each pixel."""
    v, u = np.mgrid[: size[0], : size[1]]
    pixel = np.stack([u.ravel() + 0.5, v.ravel() + 0.5, np.ones(u.size)])
    return (global_from_camera @ np.linalg.inv(intrinsics) @ pixel).astype(np.float32)


def _ground_depth(rays: np.ndarray, height: float) -> np.ndarray:
    """``[H*W]`` float32: depth (m) of the ground, infinite above the horizon."""
    down = -rays[2]
    depth = np.float32(height) / np.maximum(down, np.float32(1e-6))
    return np.where((down > 0) & (depth < FAR), depth, np.float32(np.inf))


def _ground(stage: Stage, rays: np.ndarray, depth: np.ndarray, position: np.ndarray, focal: float) -> np.ndarray:
    """Radiance ``[N, 3]`` of the ground."""
    light = stage.light
    place = (position[:2] - stage.street.low).astype(np.float32)[:, None] + rays[:2] * depth
    # A pixel is narrow across the view and long along it: its mean width decides how coarse the picture is.
    slant = np.sqrt(np.sqrt((rays**2).sum(0)) / -rays[2])
    colour = stage.street.at(place.T, depth / np.float32(focal) * slant) * np.float32(1 / 255)
    full = np.array(light.sky) + np.array(light.sun) * light.to_sun[2]
    lit = np.tile(full.astype(np.float32), (len(depth), 1))
    dark = _in_shadow(stage, rays, depth, position)
    lit[dark] *= (np.array(light.sky) / full if _sunny(light) else np.full(3, 0.45)).astype(np.float32)
    if light.lamps:
        lit += _lamp_light(light, rays, depth)[:, None]
    out = colour * lit
    if light.wetness:  # wet ground mirrors the sky at a flat angle
        mirror = 0.25 * light.wetness * np.exp(rays[2] / np.sqrt((rays**2).sum(0)) * 8)
        out += mirror[:, None].astype(np.float32) * np.array(light.horizon, dtype=np.float32)
    return out


def _lamp_light(light: Conditions, rays: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """``[N]``: light of street lamps and own headlights, falling with distance."""
    distance = depth * np.sqrt((rays**2).sum(0))
    return (light.lamps * (0.05 + 0.9 * np.exp(-distance / 14.0))).astype(np.float32)


def _sunny(light: Conditions) -> bool:
    return max(light.sun) > FAINT


def _in_shadow(stage: Stage, rays: np.ndarray, depth: np.ndarray, position: np.ndarray) -> np.ndarray:
    """``[N]`` bool: which ground points road users keep the sun (or the sky right above) from."""
    away = stage.solids.centre - position[:2]
    ahead = np.median(rays[:2], axis=1) if rays.size else np.zeros(2)
    near = ((away**2).sum(1) < SHADOW_REACH**2) & (away @ ahead > -8.0)
    casting = stage.solids[near & (stage.solids.owner != NOBODY) & (stage.solids.material != Material.WHEEL)]
    dark = np.zeros(len(depth), dtype=bool)
    if not len(casting):
        return dark
    to_sun = np.array(stage.light.to_sun) if _sunny(stage.light) else np.array([0.0, 0.0, 1.0])
    point = (rays[:2] * depth).T  # from the camera
    order = np.argsort(point[:, 0], kind="stable")
    sorted_x = point[order, 0]
    fall = -to_sun[:2] / to_sun[2]
    centre = casting.centre - position[:2]
    radius = np.hypot(*casting.half.T)
    ends = np.stack([centre[:, 0], centre[:, 0] + fall[0] * casting.top], 1)
    first = np.searchsorted(sorted_x, ends.min(1) - radius)
    last = np.searchsorted(sorted_x, ends.max(1) + radius)
    for i in range(len(casting)):
        which = order[first[i] : last[i]]
        xy = (point[which] - centre[i]).astype(np.float32)
        c, s = np.float32(np.cos(casting.yaw[i])), np.float32(np.sin(casting.yaw[i]))
        local = np.stack([c * xy[:, 0] + s * xy[:, 1], c * xy[:, 1] - s * xy[:, 0]])
        sun = np.array([c * to_sun[0] + s * to_sun[1], c * to_sun[1] - s * to_sun[0]]) / to_sun[2]
        enter = np.full(len(which), casting.bottom[i], dtype=np.float32)
        leave = np.full(len(which), casting.top[i], dtype=np.float32)
        for axis in (0, 1):
            slope = np.float32(sun[axis] if abs(sun[axis]) > 1e-6 else 1e-6)
            a, b = (-casting.half[i, axis] - local[axis]) / slope, (casting.half[i, axis] - local[axis]) / slope
            enter, leave = np.maximum(enter, np.minimum(a, b)), np.minimum(leave, np.maximum(a, b))
        dark[which[enter < leave]] = True
    return dark


def _boxes(stage: Stage, box: np.ndarray, rays: np.ndarray, depth: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Radiance ``[N, 3]`` of points on boxes."""
    solids, light = stage.solids, stage.light
    half = np.c_[solids.half, (solids.top - solids.bottom) / 2][box]
    centre = np.c_[solids.centre, (solids.top + solids.bottom) / 2][box]
    place = position + (rays * depth).T
    away = place - centre
    c, s = np.cos(solids.yaw)[box], np.sin(solids.yaw)[box]
    local = np.stack([c * away[:, 0] + s * away[:, 1], c * away[:, 1] - s * away[:, 0], away[:, 2]], -1) / half
    material = solids.material[box]
    axis = np.abs(local).argmax(1)
    positive = np.take_along_axis(local, axis[:, None], 1)[:, 0] > 0
    face = np.array([[REAR, FRONT], [RIGHT, LEFT], [BOTTOM, TOP]])[axis, positive.astype(int)]
    normal = np.zeros_like(local)
    np.put_along_axis(normal, axis[:, None], np.where(positive, 1.0, -1.0)[:, None], 1)
    round_ = material == Material.LEAVES
    normal[round_] = local[round_] / np.maximum(np.linalg.norm(local[round_], axis=1, keepdims=True), 1e-6)
    facing = np.stack([c * normal[:, 0] - s * normal[:, 1], s * normal[:, 0] + c * normal[:, 1], normal[:, 2]], -1)
    reflected, emitted = emitted_and_reflected(material, base_colours(solids, stage.name_hash)[box], local, half, face)
    sun = np.maximum(facing @ np.array(light.to_sun), 0.0) * ~stage.shaded[box]
    sky = 0.65 + 0.35 * facing[:, 2]
    lit = sun[:, None] * np.array(light.sun) + sky[:, None] * np.array(light.sky)
    if light.lamps:
        lit = lit + _lamp_light(light, rays, depth)[:, None]
    # Smooth paint and glass mirror the sky, the more the higher a face looks up.
    shine = np.isin(material, (Material.BODY, Material.CABIN, Material.ROOF, Material.CAB, Material.COACH_WINDOWS))
    mirror = (0.10 * shine * (0.5 + 0.5 * facing[:, 2]))[:, None] * np.array(light.horizon)
    return (reflected * lit + mirror + emitted * (0.3 + light.lamps)).astype(np.float32)


def _exposed(radiance: np.ndarray, light: Conditions, rng: np.random.Generator) -> np.ndarray:
    """``[H, W, 3]`` uint8: gain, darker corners, the eye's curve (gamma 2.2), noise."""
    height, width = radiance.shape[:2]
    v, u = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    gain = 1.25 if light.kind != "night" else 3.5
    corner = np.float32(gain) * (1 - 0.12 * (v[:, None] ** 2 + u[None] ** 2))
    level = np.clip(radiance * corner[..., None] * 1023, 0, 1023).astype(np.int16)
    value = _GAMMA[level] + np.float32(light.noise) * rng.standard_normal(level.shape, dtype=np.float32)
    return np.clip(value + 0.5, 0, 255).astype(np.uint8)


_GAMMA = (255 * (np.arange(1024) / 1023) ** (1 / 2.2)).astype(np.float32)
