"""Numbers about drives: closed-loop metrics on traces, open-loop metrics on planned points."""

from eval.metrics.result import MetricResult
from eval.metrics.score import METRICS, evaluate, score_cls

__all__ = ["METRICS", "MetricResult", "evaluate", "score_cls"]
