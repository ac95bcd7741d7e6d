"""Ride comfort: nuPlan's six bounds on filtered motion signals."""

from __future__ import annotations

import numpy as np
from scipy.signal import savgol_filter

from eval.metrics.drive import Drive
from eval.metrics.result import MetricResult

BOUNDS = {
    "longitudinal_acceleration": (-4.05, 2.40),  # m/s^2
    "lateral_acceleration": (-4.89, 4.89),  # m/s^2
    "jerk": (-8.37, 8.37),  # m/s^3, of the magnitude of the acceleration
    "longitudinal_jerk": (-4.13, 4.13),  # m/s^3
    "yaw_acceleration": (-1.93, 1.93),  # rad/s^2
    "yaw_rate": (-0.95, 0.95),  # rad/s
}
LEAST_STEPS = 5  # below, the filters have nothing to fit


def _filtered(signal: np.ndarray, dt: float, window: int, order: int = 2, derivative: int = 0) -> np.ndarray:
    window = min(window, signal.shape[-1])
    return savgol_filter(signal, window, order, deriv=derivative, delta=dt, axis=-1)


def comfort_signals(
    v: np.ndarray, a: np.ndarray, yaw: np.ndarray, yaw_rate: np.ndarray, dt: float, lever: float
) -> dict[str, np.ndarray]:
    """The six signals ``[..., T]`` from rear-axle motion ``[..., T]`` (m/s, m/s^2, rad, rad/s).

    lever: metres from rear axle to box centre, where nuPlan judges accelerations:
    a_lon = a - w^2 l, a_lat = v w + dw/dt l. Savitzky-Golay order 2 with windows of 8 samples
    for accelerations, 15 for jerks, 5 for yaw rate, and order 3 for yaw acceleration.
    nuPlan's own simulation leaves v w out of a_lat; it is kept here.
    """
    unwrapped = np.unwrap(yaw, axis=-1)
    turning = _filtered(yaw_rate, dt, 5, derivative=1)
    longitudinal = a - yaw_rate**2 * lever
    lateral = v * yaw_rate + turning * lever
    smooth = lambda signal: _filtered(signal, dt, 8)  # noqa: E731
    lon = smooth(longitudinal)
    return {
        "longitudinal_acceleration": lon,
        "lateral_acceleration": smooth(lateral),
        "jerk": _filtered(smooth(np.hypot(longitudinal, lateral)), dt, 15, derivative=1),
        "longitudinal_jerk": _filtered(lon, dt, 15, derivative=1),
        "yaw_acceleration": _filtered(unwrapped, dt, 5, order=3, derivative=2),
        "yaw_rate": _filtered(unwrapped, dt, 5, derivative=1),
    }


def comfort(drive: Drive) -> MetricResult:
    """C: 1 if all six signals stay strictly within their bounds over the whole drive, else 0."""
    if drive.steps < LEAST_STEPS:
        return MetricResult(1.0, False, "score", {"why": f"fewer than {LEAST_STEPS} steps"})
    t = drive.trace
    lever = drive.recording.vehicle.rear_axle_to_center
    signals = comfort_signals(t.v, t.a, t.pose[:, 2], t.yaw_rate, drive.dt, lever)
    detail: dict = {}
    comfortable = True
    for name, (low, high) in BOUNDS.items():
        signal = signals[name]
        detail[name] = [round(float(signal.min()), 3), round(float(signal.max()), 3)]
        comfortable &= bool((signal > low).all() and (signal < high).all())
    broken = [n for n, (low, high) in BOUNDS.items() if detail[n][0] <= low or detail[n][1] >= high]
    return MetricResult(float(comfortable), True, "score", {**detail, "broken": broken})
