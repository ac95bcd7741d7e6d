"""Results for people: one offline HTML file per run."""

from eval.report.geometry import SceneGeometry, load_geometry, save_geometry
from eval.report.write import write_report, write_trace_html

__all__ = ["SceneGeometry", "load_geometry", "save_geometry", "write_report", "write_trace_html"]
