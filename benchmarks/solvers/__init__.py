"""The solvers of the comparison by name; their packages are imported when one is built."""

from __future__ import annotations

from benchmarks.solvers import cvxpy_layers, layers, native, ours, qpax_solver
from benchmarks.solvers.base import Answer, Solver

_CLASSES: tuple[type[Solver], ...] = (
    ours.Dualdrive, ours.DualdriveTorch, ours.DualdriveKernel,
    layers.Moreau, layers.MoreauCondensed, layers.MoreauActiveSet,
    cvxpy_layers.CvxpyLayersClarabel, cvxpy_layers.CvxpyLayersClarabelDense, cvxpy_layers.CvxpyLayersClarabelLsmr,
    cvxpy_layers.CvxpyLayers, cvxpy_layers.CvxpyLayersMoreau,
    layers.Qpth, layers.Proxsuite, layers.OsqpLayer, qpax_solver.Qpax,
    native.Daqp, native.DaqpCondensing, native.Quadprog, native.PiqpDense, native.PiqpSparse, native.PiqpMultistage,
    native.Clarabel, native.Osqp, native.Qoco, native.ProxQp,
)  # fmt: skip
SOLVERS: dict[str, type[Solver]] = {cls.name: cls for cls in _CLASSES}
_ON_REQUEST = ("moreau-condensed", "moreau-active-set", "cvxpylayers+moreau")
DEFAULT = tuple(name for name in SOLVERS if name not in _ON_REQUEST)

__all__ = ["DEFAULT", "SOLVERS", "Answer", "Solver"]
