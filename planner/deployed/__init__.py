"""The deployed configuration: the planner in a process of its own, which may die, hang, leak or babble.

`shared_block`: one writer's messages in shared memory, protected end to end. `messages`: scenes and plans as bytes.
`worker`: the planner's process. `process`: the other side, which starts, asks, watches and restarts it.
"""

from planner.deployed.process import PlannerProcess, Status
from planner.deployed.settings import ProcessConfig

__all__ = ["PlannerProcess", "ProcessConfig", "Status"]
