"""What the ego can see of the others, where a recording asks for occlusion."""

from __future__ import annotations

import numpy as np

from eval.simulation.generate.visibility import line_of_sight
from perception.recording import ObjectStates
from planner.scene import AgentClass

RANGE = 90.0
"""Beyond this (m) nothing is looked at; perception does not reach further."""


def visible(objects: ObjectStates, ego_pose: np.ndarray) -> ObjectStates:
    """The objects of which ego sees at least a part. ego_pose ``[3]``: rear axle, global frame.

    Cars, trucks and buses hide what is behind them; nobody else does.
    """
    box = np.concatenate([objects.pose, objects.size], 1)
    big = np.isin(objects.agent_class, [AgentClass.CAR, AgentClass.TRUCK, AgentClass.BUS])
    distance = np.hypot(*(objects.pose[:, :2] - ego_pose[:2]).T)
    near = distance < RANGE
    seen = near.copy()
    for i in np.flatnonzero(near):
        hides = big & near & (distance < distance[i] + 10.0)
        hides[i] = False
        seen[i] = line_of_sight(ego_pose, box[i], box[hides])
    return ObjectStates(
        objects.track_id[seen],
        objects.agent_class[seen],
        objects.size[seen],
        objects.pose[seen],
        objects.velocity[seen],
    )
