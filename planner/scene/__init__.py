"""The contract: what perception, simulators and other people's models hand to the planner.

A leaf: imports nothing of ours.
"""

from planner.scene.agents import AgentClass, AgentFutures, AgentTracks
from planner.scene.ego import EgoState, VehicleParameters
from planner.scene.polylines import MapPolylines, PolylineType, Route
from planner.scene.raw_obstacles import RawObstacles, RawStatus
from planner.scene.tensor_data import SCHEMA_VERSION, TensorData
from planner.scene.trajectory import Trajectory
from planner.scene.vector_scene import EgoProposal, VectorScene

__all__ = [
    "SCHEMA_VERSION",
    "AgentClass",
    "AgentFutures",
    "AgentTracks",
    "EgoProposal",
    "EgoState",
    "MapPolylines",
    "PolylineType",
    "RawObstacles",
    "RawStatus",
    "Route",
    "TensorData",
    "Trajectory",
    "VectorScene",
    "VehicleParameters",
]
