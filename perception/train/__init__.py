"""Training of the learned perception: `train` in `loop.py` is the page to read."""

from perception.train.config import TrainConfig
from perception.train.loop import Step, TrainingError, train

__all__ = ["Step", "TrainConfig", "TrainingError", "train"]
