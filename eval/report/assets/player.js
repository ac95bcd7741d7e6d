// The player: one state, one draw, and the controls that change the state.

const state = {
  drive: null, other: null, seconds: 0, playing: false, rate: 1, follow: true, heading: false, chosen: null, hovered: null,
  show: Object.fromEntries(layers.map((layer) => [layer.key, !layer.off])),
};
const canvas = find("view"), camera = new Camera(canvas), plots = {};
let linking = 0, queued = false, opening = 0, lastStep = -1;

function refresh() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => { queued = false; draw(); });
}

function rowIndex(scenario, planner, traffic) {
  return header.rows.findIndex((row) => row.scenario === scenario && row.planner === planner && row.traffic === traffic);
}

async function open(index, { keepTime = false, scroll = true } = {}) {
  const row = header.rows[index], ticket = ++opening;
  find("message").hidden = true;
  if (row.blob === undefined) return say(row.status === "completed" ? "The trace of this drive cannot be read; see “About this run”." : `This drive failed: ${row.error ?? "no reason recorded"}`);
  const drive = await Drive.load(row);
  if (ticket !== opening) return;
  const same = state.drive?.row.scenario === row.scenario;
  Object.assign(state, { drive, chosen: same ? state.chosen : null, other: null });
  if (!keepTime || !same) state.seconds = drive.time[0];
  fillSelects(row);
  showMetrics(row);
  showResult(row);
  showMoments(drive, (seconds) => { play(false); seek(seconds); });
  camera.resize();
  if (!same) { camera.fit(drive.motion.xy); camera.scale = Math.min(Math.max(camera.scale, 7), 9); }
  await compareWith(find("compare").value);
  for (const cell of document.querySelectorAll("#matrix .cell")) cell.classList.toggle("open", Number(cell.dataset.row) === index);
  find("scrub").max = drive.steps - 1;
  if (scroll) find("player").scrollIntoView({ behavior: "auto", block: "start" });
  showKind(drive);
  showDualLegend(drive);
  drawStrip(drive);
  seek(state.seconds);
}

async function compareWith(value) {
  const index = value === "" ? -1 : Number(value);
  state.other = index >= 0 && header.rows[index].blob !== undefined ? await Drive.load(header.rows[index]) : null;
  fillPlots();
}

function say(text) {
  Object.assign(find("message"), { hidden: false, textContent: text });
}

function fillSelects(row) {
  const rows = header.rows, same = (key) => rows.filter((other) => other.scenario === row.scenario && other.traffic === (key ?? other.traffic));
  options("scenario", unique(rows.map((other) => other.scenario)).map((name) => [name, name]), row.scenario);
  options("traffic", unique(same().map((other) => other.traffic)).map((key) => [key, trafficName(key)]), row.traffic);
  options("planner", unique(same(row.traffic).map((other) => other.planner)).map((key) => [key, plannerName(key)]), row.planner);
  const before = rows[Number(find("compare").value || -1)];
  const others = same().filter((other) => other !== row && other.blob !== undefined);
  const kept = before ? others.find((other) => other.planner === before.planner && other.traffic === before.traffic) : undefined;
  options("compare", [["", "nothing"], ...others.map((other) => [String(rows.indexOf(other)), `${plannerName(other.planner)}, ${trafficName(other.traffic)}`])], kept ? String(rows.indexOf(kept)) : "");
}

function options(id, entries, chosen) {
  find(id).replaceChildren(...entries.map(([value, text]) => element("option", { value, textContent: text, selected: value === chosen })));
}

function choose() {
  const scenario = find("scenario").value, rows = header.rows.filter((row) => row.scenario === scenario);
  const best = rows.find((row) => row.planner === find("planner").value && row.traffic === find("traffic").value)
    ?? rows.find((row) => row.traffic === find("traffic").value) ?? rows[0];
  open(header.rows.indexOf(best), { keepTime: true, scroll: false });
}

function showResult(row) {
  const [kind, symbol, meaning] = outcome(row), score = metricOf(row, "score_cls", "cls");
  find("drive-result").className = `result ${kind}`;
  find("drive-result").textContent = `${symbol} ${Number.isFinite(score) ? `CLS ${score.toFixed(3)} · ` : ""}${meaning}`.trim();
}

function seek(seconds) {
  const { drive } = state;
  if (!drive) return;
  state.seconds = Math.min(Math.max(seconds, drive.time[0]), drive.time[drive.steps - 1]);
  refresh();
}

function play(on) {
  if (on && state.drive && state.seconds >= state.drive.time[state.drive.steps - 1] - 1e-6) state.seconds = state.drive.time[0];
  state.playing = on && state.drive !== null;
  find("play").classList.toggle("playing", state.playing);
  find("play").ariaLabel = state.playing ? "Pause" : "Play";
  let before = null;
  const tick = (now) => {
    if (!state.playing) return;
    if (before !== null) seek(state.seconds + Math.min((now - before) / 1000, 0.25) * state.rate);
    before = now;
    if (state.seconds >= state.drive.time[state.drive.steps - 1] - 1e-6) return play(false);
    requestAnimationFrame(tick);
  };
  if (state.playing) requestAnimationFrame(tick);
}

function draw() {
  const { drive, seconds, show } = state;
  if (!drive) return;
  camera.resize();
  const step = drive.step(seconds), pose = drive.ego(seconds), g = canvas.getContext("2d"), c = colours();
  const ahead = 0.2 * Math.min(camera.width, camera.height) / camera.scale;
  if (state.follow) Object.assign(camera, { x: pose.x + ahead * Math.cos(pose.yaw), y: pose.y + ahead * Math.sin(pose.yaw) });
  camera.turn = state.heading ? Math.PI / 2 - pose.yaw : camera.upright;
  camera.screen(g);
  g.fillStyle = drive.scene.drivable ? c.ground : c.road;
  g.fillRect(0, 0, camera.width, camera.height);
  camera.world(g);
  const px = 1 / camera.scale, focus = state.hovered ?? state.chosen;
  drawMap(g, drive.scene, px, show);
  if (show.path) stroke(g, trace(new Path2D(), line(drive.motion.xy, 0, drive.steps)), c.ego, 1.2 * px, [], 0.5);
  if (state.other) stroke(g, trace(new Path2D(), line(state.other.motion.xy, 0, state.other.steps)), c.compare, 1.4 * px, [], 0.8);
  if (show.modes) drawModes(g, camera, drive, step, px, focus);
  drawPlans(g, drive, step, px, show);
  if (show.expert && drive.scene.expert && drive.row.planner !== "expert") drawGhost(g, drive, drive.expert(seconds), c.expert, px);
  const marked = marks(drive, step, focus);
  if (show.agents) drawAgents(g, camera, drive, seconds, px, drive.learned ? new Map() : marked);
  if (show.perceived) drawPerceived(g, camera, drive, step, seconds, px, marked);
  if (state.other) drawGhost(g, state.other, state.other.ego(seconds), c.compare, px);
  drawEgo(g, drive, seconds, px);
  if (show.active) drawConstraints(g, camera, drive, step, seconds, px);
  camera.screen(g);
  drawLabels(g, drive, step, seconds, focus);
  scaleBar();
  showTime(drive, step);
  if (step !== lastStep || !state.playing) showStep(drive, step);
  for (const plot of Object.values(plots)) plot.draw(seconds);
  lastStep = step;
}

// the address names the moment that is shown, so that it can be passed on; browsers limit how often it may change
function linkTo(parts) {
  clearTimeout(linking);
  linking = setTimeout(() => history.replaceState(null, "", `#${parts.map(encodeURIComponent).join("/")}`), 300);
}

// objects with a ring: the ones the checker complains about, and the one pointed at
function marks(drive, step, focus) {
  const found = new Map();
  for (const row of drive.findings("rejected", step)) if (row.id) found.set(row.id, colours().alarm);
  for (const row of drive.verdict(step)?.violations ?? []) if (row.id) found.set(row.id, colours().alarm);
  if (focus) found.set(focus, colours().text);
  return found;
}

function drawLabels(g, drive, step, seconds, focus) {
  const named = drive.learned ? drive.perceived(step) : drive.present(step).map((i) => drive.agent(i, seconds));
  for (const agent of state.show.agents ? named : []) {
    if (state.show.labels || agent.id === focus) label(g, camera, agent.x, agent.y, agent.id, colours().text);
  }
}

function scaleBar() {
  const metres = [1, 2, 5, 10, 20, 50, 100, 200].find((size) => size * camera.scale > 60) ?? 500;
  find("scale").style.width = `${metres * camera.scale}px`;
  find("scale").firstElementChild.textContent = `${metres} m`;
}

function showTime(drive, step) {
  if (!state.playing) linkTo([drive.row.scenario, drive.row.planner, drive.row.traffic, drive.time[step].toFixed(1)]);
  find("scrub").value = step;
  find("clock").textContent = `${(drive.time[step] - drive.time[0]).toFixed(1)} / ${(drive.time[drive.steps - 1] - drive.time[0]).toFixed(1)} s`;
}

function showStep(drive, step) {
  showBadges(drive, step);
  showStatus(drive, step);
  showConstraints(drive, step, (id) => { state.hovered = id; refresh(); });
}

function makePlots() {
  const make = (key, title, unit) => { plots[key] = new Plot(find("plots"), title, unit, seek); };
  make("speed", "Speed", "m/s");
  make("acceleration", "Acceleration", "m/s²");
  make("curvature", "Curvature", "1/m");
  make("gap", "Gap and margin", "m");
  make("price", "Price of constraints", "dual");
  make("times", "Computation", "ms");
}

function fillPlots() {
  const { drive, other } = state;
  if (!drive) return;
  const otherName = other && (other.row.planner === drive.row.planner ? trafficName(other.row.traffic) : plannerName(other.row.planner));
  const m = drive.motion, expert = drive.scene.expert, span = [drive.time[0], Math.max(drive.time[drive.steps - 1], drive.time[0] + 0.1)];
  const tone = (name) => () => colours()[name], hue = (i) => () => colours().series[i % 5];
  const base = (values, name = "driven") => ({ label: name, time: drive.time, values, colour: tone("ego"), width: 2 });
  const ghost = (key) => [
    ...(expert?.[key] && drive.row.planner !== "expert" ? [{ label: "expert", time: expert.time, values: expert[key], colour: tone("expert"), dash: [4, 3] }] : []),
    ...(other ? [{ label: otherName, time: other.time, values: other.motion[key], colour: tone("compare"), width: 1.6 }] : []),
  ];
  plots.speed.show([{ label: "limit", time: drive.time, values: m.speed_limit, colour: tone("limit"), dash: [6, 3] }, ...ghost("v"), base(m.v)], span, { from: 0, to: 2 });
  plots.acceleration.show([...ghost("a"), base(m.a)], span, { from: -1, to: 1 });
  plots.curvature.show([...ghost("curvature"), base(m.curvature)], span, { from: -0.02, to: 0.02 });
  const margin = drive.full ? [{ label: "checker margin", time: drive.time, values: drive.pictures.worst_margin, colour: hue(2), dash: [4, 3] }] : [];
  const near = (values) => values.map((value) => value > 40 ? NaN : value); // far objects would flatten the part that matters
  plots.gap.show([...margin.map((one) => ({ ...one, values: near(one.values) })), ...(other ? [{ label: otherName, time: other.time, values: near(other.motion.min_gap), colour: tone("compare") }] : []), base(near(m.min_gap), "gap")], span, { from: 0, to: 2 });
  plots.price.show(drive.prices(5).map(([rule, values], i) => ({ label: rule.replaceAll("_", " "), time: drive.time, values, colour: hue(i) })), span, { log: true });
  plots.times.show([["observe", drive.pictures.observe_ms, 4], ["cycle", m.cycle_ms, 0], ["solve", m.solve_ms, 2], ["check", m.check_ms, 3]].map(([name, values, i]) => ({ label: name, time: drive.time, values, colour: hue(i) })), span, { from: 0 });
  refresh();
}
