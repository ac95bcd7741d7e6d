"""Planners to compare with. Each is a `Driver` of the simulator and reads only the vector scene.

The one exception is the recorded expert, which replays the log.
"""

from eval.baselines.constant_velocity import ConstantVelocity
from eval.baselines.expert import Expert
from eval.baselines.idm import IdmDriver
from eval.baselines.pdm_style import PdmStyle

__all__ = ["ConstantVelocity", "Expert", "IdmDriver", "PdmStyle"]
