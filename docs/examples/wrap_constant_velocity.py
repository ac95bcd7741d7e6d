"""Wrap a planner that never looks: constant velocity, made safe by the layer. A pedestrian walks across its way."""

from __future__ import annotations

import torch
from road import road_scene
from shapely import affinity
from shapely.geometry import Polygon, box

from planner.checker import check
from planner.safety_layer import SafetyLayer
from planner.scene import AgentClass, Trajectory, VectorScene, VehicleParameters

VEHICLE = VehicleParameters()


def constant_velocity(scene: VectorScene) -> Trajectory:
    """Six seconds straight on; it could be anybody's planner."""
    time = torch.arange(61, dtype=torch.float64) / 10
    zero, v = torch.zeros_like(time), scene.ego.v
    return Trajectory(time, v * time, zero, zero, v + zero, zero, zero)


def rectangle(x: float, y: float, yaw: float, length: float, width: float) -> Polygon:
    shape = box(-length / 2, -width / 2, length / 2, width / 2)
    return affinity.translate(affinity.rotate(shape, yaw, (0, 0), use_radians=True), x, y)


def closest(scene: VectorScene, trajectory: Trajectory) -> float:
    """Least distance (m) of ego's outline to the pedestrian's, at the times of the forecast."""
    size = scene.agents.box[0, 3:].tolist()
    apart = []
    for i, (x, y) in enumerate(scene.futures.mean[0, 0].tolist()):
        at = 2 * (i + 1)  # the forecast has every other time of the trajectory
        pose = torch.stack([trajectory.x[at], trajectory.y[at], trajectory.yaw[at]])
        ahead = VEHICLE.rear_axle_to_center * torch.tensor([torch.cos(pose[2]), torch.sin(pose[2]), 0.0])
        ego = rectangle(*(pose + ahead).tolist(), VEHICLE.length, VEHICLE.width)
        apart.append(ego.distance(rectangle(x, y, float(scene.futures.yaw[0, 0, i]), *size)))
    return min(apart)


def main() -> dict[str, float]:
    scene = road_scene(8.0, 25.0, -5.0, vy=1.4, kind=AgentClass.PEDESTRIAN)
    proposed = constant_velocity(scene)
    answer = SafetyLayer(vehicle=VEHICLE)(scene, proposed)
    without, with_layer = closest(scene, proposed), closest(scene, answer.trajectory)
    certificate = answer.certificate()
    assert certificate is not None
    print(f"closest to the pedestrian: {without:.2f} m without the layer, {with_layer:.2f} m with it")
    print(f"decision: {answer.decision[0]}; safe: {bool(answer.safe)}; changed by up to {float(answer.changed):.1f} m")
    print(f"certificate: hard rows met to {max(certificate.primal_residual, 0.0):.0e}; what shapes the answer:")
    for row in certificate.active[:3]:
        who = f" of object {row.label.track_id}" if row.label.track_id >= 0 else ""
        print(f"  '{row.label.rule}'{who} at {row.label.time} s, price {row.dual:.0f}")
    report = check(scene, answer.trajectory, answer.tail, VEHICLE)
    print(f"independent checker: {'accepted' if report.accepted else report.reason}")
    return {"without": without, "with": with_layer, "residual": certificate.primal_residual}


if __name__ == "__main__":
    main()
