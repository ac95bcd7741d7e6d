"""commonroad-drivability-checker's verdicts on cases of `commonroad_oracle.py`; runs in the oracles' environment.

python commonroad_side.py CASES.npz ANSWERS.npz. For every case: first step at which the rectangles overlap (-1: never),
and first interval in which the oriented box around two consecutive ego rectangles overlaps the given box of the other
(-1: never).
"""

from __future__ import annotations

import sys

import commonroad_dc.pycrcc as pycrcc
import numpy as np
from commonroad_dc.collision.trajectory_queries import trajectory_queries


def moving(pose: np.ndarray, size: np.ndarray) -> pycrcc.TimeVariantCollisionObject:
    """A rectangle of a size (length, width) at the poses ``[T, 3]``, one a step."""
    out = pycrcc.TimeVariantCollisionObject(0)
    for x, y, yaw in pose:
        out.append_obstacle(pycrcc.RectOBB(size[0] / 2, size[1] / 2, yaw, x, y))
    return out


def main() -> None:
    cases = np.load(sys.argv[1])
    discrete, swept = [], []
    for ego, other, size, box in zip(cases["ego"], cases["other"], cases["size"], cases["box"]):
        mine, theirs = moving(ego, size[0]), moving(other, size[1])
        discrete.append(trajectory_queries.trajectories_collision_dynamic_obstacles([mine], [theirs])[0])
        hull, errors = trajectory_queries.trajectory_preprocess_obb_sum(mine)
        if errors:
            raise RuntimeError("commonroad could not box a trajectory")
        boxes = pycrcc.TimeVariantCollisionObject(0)
        for x, y, yaw, half_length, half_width in box:
            boxes.append_obstacle(pycrcc.RectOBB(half_length, half_width, yaw, x, y))
        swept.append(trajectory_queries.trajectories_collision_dynamic_obstacles([hull], [boxes])[0])
    np.savez(sys.argv[2], discrete=np.array(discrete), swept=np.array(swept))


if __name__ == "__main__":
    main()
