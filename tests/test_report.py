"""The report: what goes into the file, and what a reader can do with it in a browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import shapely
from browser import Browser, find_chromium
from hypothesis import given, settings
from hypothesis import strategies as st
from report_fixture import PLANNERS, TRAFFIC, recording, trace, write_run

from eval.pipeline import DualDrive
from eval.report import SceneGeometry, load_geometry, save_geometry, write_report, write_trace_html
from eval.report.data import read_run
from eval.report.overview import overview
from eval.report.pack import Quantised, pack
from eval.report.pictures import MODE_POINTS, columns
from eval.simulation.rollout import rollout
from eval.simulation.simulation_config import SimulationConfig

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def report(run_dir: Path) -> Path:
    return write_report(run_dir)


# the file


def test_nothing_is_fetched_from_anywhere(report: Path) -> None:
    text = report.read_text()
    found = re.findall(
        r"""(?:https?:)?//[\w.-]+\.[a-z]{2,}[^\s"'<>]*""", re.sub(r'<script type="application.*?</script>', "", text)
    )
    assert not found
    assert not re.search(r"""<(?:link|script|img)[^>]*(?:src|href)=["'](?!data:)""", text)
    assert "@@" not in text.split("<body>")[0]


def test_report_lies_in_the_run_directory_unless_told_otherwise(run_dir: Path, report: Path, tmp_path: Path) -> None:
    assert report == run_dir / "report.html"
    assert write_report(run_dir, tmp_path / "new" / "page.html") == tmp_path / "new" / "page.html"
    assert not list(run_dir.glob("*.tmp"))


def test_markup_in_texts_stays_text(tmp_path: Path) -> None:
    run = write_run(tmp_path, scenarios=1, planners=("expert",))
    lines = [json.loads(line) for line in (run / "scenarios.jsonl").read_text().splitlines()]
    lines[0] |= {"status": "failed", "error": "</script><script>alert(1)</script>"}
    (run / "scenarios.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "<script>alert(1)" not in write_report(run).read_text()


def test_no_result_directory_is_an_error_that_names_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"scenarios\.jsonl"):
        write_report(tmp_path)


def test_unfinished_and_damaged_runs_still_give_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path, scenarios=1, planners=("dualdrive", "expert"))
    (run / "summary.json").unlink()
    (run / "manifest.json").write_text("{")
    (run / "traces/expert/log_replay/bend-00.npz").write_bytes(b"PK\x03\x04 cut short")
    (run / "recordings/bend-00.npz").unlink()
    with open(run / "scenarios.jsonl", "a") as file:
        file.write('{"scenario": "bend-')
    header = read_run(run).header
    notes = " ".join(header["notes"])
    assert all(name in notes for name in ("summary.json", "manifest.json", "expert/log_replay", "recordings/bend-00"))
    unreadable = [row for row in header["rows"] if "blob" not in row]
    assert {(row["planner"], row["traffic"]) for row in unreadable} == {("expert", "log_replay"), ("expert", "idm")}
    write_report(run)


def test_agents_of_a_log_replay_are_stored_once(run_dir: Path) -> None:
    rows = read_run(run_dir).header["rows"]
    for scenario in ("bend-00", "bend-01"):
        replayed = {row["agents"] for row in rows if row["scenario"] == scenario and row["traffic"] == "log_replay"}
        assert len(replayed) == 1


# the overview


def _row(planner: str, status: str = "completed", **metrics: float) -> dict:
    return {
        "scenario": "s", "planner": planner, "traffic": "idm", "status": status, "error": "it broke",
        "metrics": {name: {"value": value, "valid": True, "unit": ""} for name, value in metrics.items()},
    }  # fmt: skip


def test_a_score_is_valid_only_if_every_scenario_was_driven() -> None:
    fact = {"cycle_ms": np.array([1.0, 3.0]), "without_tail": 1, "min_gap": 0.5}
    rows = [_row("dualdrive", cls=1.0, off_road=3.0), _row("dualdrive", cls=0.5, off_road=0.0)]
    (whole,) = overview(rows, [fact, fact], {})["runs"]
    assert whole["valid"]
    assert whole["values"]["score_cls"] == 0.75
    assert whole["values"]["off_road"] == 1  # scenarios, not steps
    assert whole["values"]["plans_without_tail"] == 2
    (partial,) = overview([*rows, _row("dualdrive", "failed")], [fact, fact, {}], {})["runs"]
    assert not partial["valid"]
    assert partial["failed"] == [{"scenario": "s", "error": "it broke"}]
    (cut,) = overview(rows, [fact, fact], {"runs": [{"planner": "dualdrive", "traffic": "idm", "scenarios": 7}]})[
        "runs"
    ]
    assert not cut["valid"]
    assert cut["scenarios"] == 7


def test_numbers_of_the_summary_win_and_missing_ones_stay_missing() -> None:
    stated = {"planner": "idm", "traffic": "idm", "scenarios": 1, "score_cls": 0.25, "cycle_ms": {"p50": 4.0}}
    (run,) = overview([_row("idm", cls=1.0)], [{}], {"runs": [stated]})["runs"]
    assert run["values"]["score_cls"] == 0.25
    assert run["values"]["cycle_p50"] == 4.0
    assert run["values"]["cycle_p99"] is None
    assert run["values"]["min_gap"] is None


def test_every_number_names_its_protocol(run_dir: Path) -> None:
    assert all(len(column["protocol"]) > 20 for column in read_run(run_dir).header["overview"]["columns"])


# geometry


def test_geometry_survives_the_file(tmp_path: Path) -> None:
    rec = recording("bend-00")
    path = save_geometry(rec, tmp_path / "deep" / "bend-00.npz")
    drawn, read = SceneGeometry.from_recording(rec), load_geometry(path)
    for name in ("drivable", "lanes", "dividers", "crossings", "stop_lines"):
        before, after = getattr(drawn, name), getattr(read, name)
        assert len(before) == len(after) > 0
        for one, other in zip(before, after):
            np.testing.assert_allclose(one, other, atol=6e-4)
    assert read.vehicle == (4.084, 1.85, 1.4)
    assert read.metadata == {"family": "bend", "seed": 3}
    np.testing.assert_allclose(read.expert["pose"], rec.ego.pose, atol=1e-6)
    assert [p.name for p in path.parent.iterdir()] == ["bend-00.npz"]


def test_the_map_is_clipped_and_the_drivable_area_keeps_its_holes() -> None:
    rec = recording("bend-00")
    geometry = SceneGeometry.from_recording(rec, around=20.0)
    window = shapely.union_all([shapely.LineString(xy).buffer(20.0) for xy in (rec.ego.pose[:, :2], rec.route_xy)])
    rings = [shapely.Polygon(ring) for ring in geometry.drivable]
    outer, holes = max(rings, key=lambda ring: ring.area), sorted(rings, key=lambda ring: ring.area)[:-1]
    area = outer.area - sum(hole.area for hole in holes)
    assert area == pytest.approx(rec.road.drivable.intersection(window).area, rel=2e-3)
    assert all(shapely.LineString(lane).within(window.buffer(0.1)) for lane in geometry.lanes)


def test_speed_limit_along_the_route() -> None:
    rec = recording("bend-00")
    rec.road.lanes["own"].speed_limit = 7.0
    geometry = SceneGeometry.from_recording(rec)
    np.testing.assert_allclose(geometry.limit_along(rec.ego.pose[:, :2]), 7.0)
    rec.route = ["gone"]
    assert np.isnan(SceneGeometry.from_recording(rec).limit_along(rec.ego.pose[:, :2])).all()


def test_an_ego_that_never_moves_has_a_map(tmp_path: Path) -> None:
    rec = recording("bend-00")
    rec.ego.pose[:] = rec.ego.pose[0]
    assert load_geometry(save_geometry(rec, tmp_path / "still.npz")).lanes


def test_geometry_of_another_version_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "old.npz", meta=json.dumps({"schema": 0}))
    with pytest.raises(ValueError, match="geometry schema 0, expected 1"):
        load_geometry(tmp_path / "old.npz")


# pictures


def test_pictures_that_say_nothing_are_no_error() -> None:
    table = columns(
        [{}, {"plan": None, "tail": None, "check": None, "modes": []}], np.zeros((2, 2)), np.zeros(2), full=True
    )
    assert table["accepted"].values.tolist() == [-1, -1]
    assert not table["plan"]["xy"].values.size
    assert not table["active"]["dual"].size


def test_predictions_are_thinned_but_keep_their_end() -> None:
    far = {"track_id": 1, "p": 1.0, "xy": [[500.0, 0.0]], "sigma": [1.0]}
    unlikely = {"track_id": 2, "p": 0.001, "xy": [[1.0, 0.0]], "sigma": [1.0]}
    near = {"track_id": 3, "p": 0.5, "xy": [[float(i), 0.0] for i in range(30)], "sigma": [0.1 * i for i in range(30)]}
    table = columns([{"modes": [far, unlikely, near]}], np.zeros((1, 2)), np.zeros(2), full=True)
    assert table["modes"]["points"].values.tolist() == [MODE_POINTS]
    assert table["modes"]["xy"].values[-1].tolist() == [29.0, 0.0]
    assert table["modes"]["sigma"].values[-1] == pytest.approx(2.9)


def test_every_key_of_a_picture_is_documented() -> None:
    """Of the pictures here and of those that the real driver leaves."""
    text = (DOCS / "trace.md").read_text()
    rec = recording("bend-00")
    driven = rollout(rec, DualDrive(), "log_replay", SimulationConfig(duration=0.2))
    assert driven.steps[-1]["plan"]

    def keys(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {key for entry in value.values() for key in keys(entry)}
        return {key for entry in value for key in keys(entry)} if isinstance(value, list) else set()

    undocumented = {
        key
        for step in [*driven.steps, *trace(rec, "dualdrive", "idm").steps]
        for key in keys(step)
        if not re.search(rf'[`"]{key}[`"]', text)
    }
    assert not undocumented


def test_packing_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="finite"):
        pack(Quantised(np.array([np.nan]), 0.1))
    with pytest.raises(ValueError, match="31 bits"):
        pack(Quantised(np.array([1e9]), 0.01))


# in the browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    binary = find_chromium()
    if binary is None:
        pytest.skip("no Chromium: install the package `chromium` to test the report's page")
    with Browser(binary) as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Browser]:
    """The report, freshly opened; afterwards nothing may have gone wrong in it, and nothing may have been fetched."""
    browser.problems.clear()
    browser.requests.clear()
    browser.resize(1280, 800)
    browser.open(report)
    yield browser
    assert browser.problems == []
    assert browser.requests == []
    assert browser.evaluate("document.getElementById('errors').hidden")


# colour -> number of pixels, of a canvas
pixels = """(id => {
  const c = document.querySelector(id), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  const seen = new Map();
  for (let i = 0; i < d.length; i += 4) {
    const colour = (d[i] << 16) + (d[i + 1] << 8) + d[i + 2];
    seen.set(colour, 1 + (seen.get(colour) ?? 0));
  }
  return seen;
})"""
draw_all = """(async () => {
  let drawn = 0;
  for (const [i, row] of dualdrive.header.rows.entries()) {
    if (row.blob === undefined) continue;
    await dualdrive.open(i, { scroll: false });
    for (let k = 0; k < dualdrive.state.drive.steps; k += 7) {
      dualdrive.seek(dualdrive.state.drive.time[k]);
      dualdrive.draw();
      drawn++;
    }
  }
  return drawn;
})()"""
plot_colours = f"""[...document.querySelectorAll('.plot canvas')].map((plot, i) => {{
  plot.id = `plot-${{i}}`;
  return {pixels}(`#plot-${{i}}`).size;
}})"""


@pytest.mark.browser
def test_every_drive_can_be_drawn_at_every_step(page: Browser) -> None:
    drawn = page.evaluate(draw_all)
    assert drawn == (2 * len(PLANNERS) * len(TRAFFIC) - 1) * len(range(0, 120, 7))


@pytest.mark.browser
def test_numbers_arrive_as_they_were_packed(page: Browser) -> None:
    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(*2 * [st.floats(-1e6, 1e6)]), max_size=40), st.lists(st.floats(width=32), max_size=9))
    def round_trip(points: list[tuple[float, float]], plain: list[float]) -> None:
        xy = np.array(points, float).reshape(-1, 2)
        packed = pack(
            {"xy": [Quantised(xy, 0.01)], "plain": np.array(plain), "text": "ü</script>", "none": float("inf")}
        )
        text = page.evaluate(
            f"dualdrive.unpack('{packed}').then(o => JSON.stringify({{...o, xy: Array.from(o.xy[0]),"
            " plain: Array.from(o.plain, String)}))"
        )
        got = json.loads(text)
        np.testing.assert_allclose(np.array(got["xy"]), xy.reshape(-1), atol=0.0051)
        np.testing.assert_array_equal(np.array(got["plain"], float), np.array(plain, np.float32))
        assert (got["text"], got["none"]) == ("ü</script>", None)

    round_trip()


@pytest.mark.browser
def test_the_ego_is_drawn_where_the_trace_says(page: Browser) -> None:
    driven = trace(recording("bend-00"), "dualdrive", "log_replay")
    page.evaluate("dualdrive.seek(4.0)")
    x, y, yaw = (page.evaluate(f"dualdrive.state.drive.ego(4.0).{k}") for k in ("x", "y", "yaw"))
    origin = page.evaluate("dualdrive.state.drive.scene.origin")
    np.testing.assert_allclose([x + origin[0], y + origin[1], yaw], driven.pose[40], atol=0.01)
    assert page.evaluate("dualdrive.state.drive.agent(0, 4.05).speed") == pytest.approx(7.5, abs=0.05)
    # between two steps: half way
    middle = page.evaluate("dualdrive.state.drive.ego(4.05).x") + origin[0]
    assert middle == pytest.approx(driven.pose[40:42, 0].mean(), abs=0.01)


@pytest.mark.browser
def test_layers_can_be_switched_off(page: Browser) -> None:
    page.evaluate("dualdrive.seek(6.5)")
    page.evaluate("dualdrive.draw()")
    for layer in page.evaluate(
        "[...document.querySelectorAll('label:not(.absent) [data-layer]')].map(i => i.dataset.layer)"
    ):
        shown = []
        for _ in range(2):
            page.evaluate(f"document.querySelector('[data-layer={layer}]').click()")
            page.evaluate("dualdrive.draw()")
            shown.append(page.evaluate(f"JSON.stringify([...{pixels}('#view')].sort())"))
        assert shown[0] != shown[1], layer


@pytest.mark.browser
def test_plots_are_drawn_and_a_click_seeks(page: Browser) -> None:
    counts = page.evaluate(plot_colours)
    assert len(counts) == 6
    assert min(counts) > 10
    page.evaluate("document.querySelector('#plots').scrollIntoView()")
    box = page.evaluate(
        "(r => [r.left, r.top, r.width, r.height])(document.querySelector('.plot canvas').getBoundingClientRect())"
    )
    page.mouse("mousePressed", box[0] + 44 + (box[2] - 52) / 2, box[1] + 40)
    page.mouse("mouseReleased", box[0] + 44 + (box[2] - 52) / 2, box[1] + 40)
    assert page.evaluate("dualdrive.state.seconds") == pytest.approx(11.9 / 2, abs=0.1)


@pytest.mark.browser
def test_keys_play_and_step(page: Browser) -> None:
    page.evaluate("document.getElementById('view').focus()")
    for key, modifiers, seconds in (
        ("ArrowRight", 0, 0.1),
        ("ArrowRight", 8, 1.1),
        ("ArrowLeft", 0, 1.0),
        ("End", 0, 11.9),
        ("Home", 0, 0.0),
    ):
        page.key(key, modifiers)
        assert page.evaluate("dualdrive.state.seconds") == pytest.approx(seconds, abs=1e-3), key
    page.evaluate("(r => { r.value = '4'; r.dispatchEvent(new Event('change')); })(document.getElementById('rate'))")
    page.key(" ")
    page.wait("dualdrive.state.seconds > 0.5")
    page.key(" ")
    stopped = page.evaluate("dualdrive.state.seconds")
    page.evaluate("new Promise(done => setTimeout(done, 150))")
    assert page.evaluate("dualdrive.state.seconds") == stopped


@pytest.mark.browser
def test_wheel_zooms_and_dragging_moves(page: Browser) -> None:
    page.evaluate("document.getElementById('player').scrollIntoView()")
    x, y = page.evaluate(
        "(r => [r.left + r.width / 2, r.top + r.height / 2])(document.getElementById('view').getBoundingClientRect())"
    )
    scale = page.evaluate("dualdrive.camera.scale")
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200)
    page.wait(f"dualdrive.camera.scale > {scale}")
    assert page.evaluate("dualdrive.state.follow")
    page.mouse("mouseMoved", x, y)
    page.mouse("mousePressed", x, y)
    page.mouse("mouseMoved", x + 10, y, buttons=1, button="left")
    grabbed = page.evaluate("dualdrive.camera.toWorld(110, 0)")
    page.mouse("mouseMoved", x + 110, y, buttons=1, button="left")
    page.mouse("mouseReleased", x + 110, y)
    assert not page.evaluate("dualdrive.state.follow")
    assert page.evaluate("dualdrive.camera.toWorld(210, 0)") == pytest.approx(grabbed, abs=0.05)


@pytest.mark.browser
def test_planners_are_chosen_and_compared_at_the_same_time(page: Browser) -> None:
    page.evaluate("dualdrive.seek(5.0)")
    page.evaluate(
        "(s => { s.value = 'idm'; s.dispatchEvent(new Event('change')); })(document.getElementById('planner'))"
    )
    page.wait("dualdrive.state.drive.row.planner === 'idm'")
    assert page.evaluate("dualdrive.state.seconds") == pytest.approx(5.0)
    page.evaluate(
        "(s => { s.selectedIndex = 1; s.dispatchEvent(new Event('change')); })(document.getElementById('compare'))"
    )
    page.wait("dualdrive.state.other !== null")
    assert page.evaluate("dualdrive.plots.speed.series.length") == 4  # limit, expert, the other, driven
    page.evaluate("document.querySelectorAll('#matrix .cell')[2].click()")
    page.wait("dualdrive.state.drive.row.planner === 'constant_velocity'")
    assert page.evaluate("document.querySelectorAll('#matrix .cell:disabled').length") == 1
    assert "the sensor went dark" in page.evaluate("document.querySelector('.failures').textContent")


@pytest.mark.browser
def test_a_rejected_plan_says_so_and_markup_is_not_interpreted(page: Browser) -> None:
    page.evaluate("dualdrive.seek(6.5)")
    page.evaluate("dualdrive.draw()")
    badges = page.evaluate("document.getElementById('badges').textContent")
    assert all(text in badges for text in ("fail-safe tail", "rejected: occupancy, object 11", "DEGRADED"))
    assert page.evaluate("document.getElementById('explanation').children.length") == 0
    page.evaluate("dualdrive.seek(2.0)")
    page.evaluate("dualdrive.draw()")
    assert "accepted" in page.evaluate("document.getElementById('badges').textContent")
    assert page.evaluate("document.querySelectorAll('#constraints tr').length") == 4


@pytest.mark.browser
def test_moments_lead_to_their_time(page: Browser) -> None:
    texts = page.evaluate("[...document.querySelectorAll('#moments button')].map(b => b.textContent)")
    assert any(text.startswith("6.4 s") and "fail-safe tail for 0.3 s" in text for text in texts)
    assert any("car 9 waits" in text for text in texts)
    page.evaluate("[...document.querySelectorAll('#moments button')].find(b => b.textContent.includes('tail')).click()")
    assert page.evaluate("dualdrive.state.seconds") == pytest.approx(6.4, abs=1e-3)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_never_scrolls_sideways(page: Browser, width: int) -> None:
    page.resize(width, 800)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_colours_follow_the_system_and_the_button(page: Browser) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page.prefer("dark")
    dark = page.evaluate(background)
    page.evaluate("document.getElementById('theme').click()")
    light = page.evaluate(background)
    page.prefer("light")
    assert light != dark
    assert page.evaluate(background) == light


@pytest.mark.browser
def test_the_address_opens_a_moment(page: Browser, report: Path) -> None:
    page.send("Page.navigate", url="about:blank")
    page.send("Page.navigate", url=f"{report.resolve().as_uri()}#bend-01/pdm_style/log_replay/3.0")
    page.wait("document.documentElement?.dataset.ready === 'true'")
    assert page.evaluate("dualdrive.state.drive.row.scenario + dualdrive.state.drive.row.planner") == "bend-01pdm_style"
    assert page.evaluate("dualdrive.state.seconds") == pytest.approx(3.0)


@pytest.mark.browser
def test_a_run_without_any_readable_drive_says_so(page: Browser, run_dir: Path, tmp_path: Path) -> None:
    shutil.copy(run_dir / "scenarios.jsonl", tmp_path)
    page.open(write_report(tmp_path))
    assert "No drive" in page.evaluate("document.getElementById('message').textContent")


@pytest.mark.browser
def test_what_a_network_perceived_is_drawn_beside_the_truth(page: Browser, tmp_path: Path) -> None:
    """One box told for the leader, under a number of the tracker's own; nobody else is told: they wear rings."""
    rec = recording("bend-00")
    drive = trace(rec, "dualdrive", "idm")
    drive.planner = "dualdrive@network"
    for k, step in enumerate(drive.steps):
        x, y, yaw = (float(v) for v in drive.agent_pose[0, k])
        step["perceived"] = [
            {"track_id": 11, "class": 0, "xy": [round(x, 2), round(y, 2)], "yaw": yaw, "size": [4.4, 1.8], "p": 0.9}
        ] * (k != 50)  # fmt: skip
    page.open(write_trace_html(drive, tmp_path / "seen.html", rec))
    told = page.evaluate("(d => [d.learned, d.perceived(60).length, d.perceived(50).length])(dualdrive.state.drive)")
    assert told == [True, 1, 0]
    seen = page.evaluate("dualdrive.state.drive.agentById('11', 6.0)")
    origin = page.evaluate("dualdrive.state.drive.scene.origin")
    assert [seen["x"] + origin[0], seen["y"] + origin[1]] == pytest.approx(drive.agent_pose[0, 60, :2], abs=0.03)
    assert page.evaluate("dualdrive.state.drive.agentById('7', 6.0)") is None  # the recording's own number
    page.evaluate("dualdrive.seek(6.0)")
    shown = []
    for _ in range(2):
        page.evaluate("document.querySelector('[data-layer=perceived]').click()")
        page.evaluate("dualdrive.draw()")
        shown.append(page.evaluate(f"JSON.stringify([...{pixels}('#view')].sort())"))
    assert shown[0] != shown[1]


@pytest.mark.browser
def test_a_single_trace_has_a_page(page: Browser, tmp_path: Path) -> None:
    rec = recording("bend-00")
    page.open(write_trace_html(trace(rec, "dualdrive", "idm"), tmp_path / "one.html", rec))
    assert page.evaluate("dualdrive.state.drive.scene.lanes.length") == 3
    page.open(write_trace_html(trace(rec, "idm", "idm"), tmp_path / "bare.html"))
    assert page.evaluate("dualdrive.state.drive.steps") == 120
