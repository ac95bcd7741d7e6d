// Header, overview table, scenario matrix, notes.

const header = JSON.parse(document.getElementById("header").textContent);
const find = (id) => document.getElementById(id);
const planners = { expert: "recorded expert", constant_velocity: "constant velocity", idm: "IDM on the route", pdm_style: "PDM-Closed-style" };
const traffics = { log_replay: "log replay (NR)", idm: "IDM-reactive (R)" };
const isOurs = (key) => key.split("@")[0] === "dualdrive";
const plannerName = (key) => {
  const [name, seenBy] = key.split("@");
  return (planners[name] ?? name.replaceAll("_", " ")) + (seenBy ? ` @${seenBy}` : "");
};
const trafficName = (key) => traffics[key] ?? key.replaceAll("_", " ");

function element(tag, properties = {}, parent = null) {
  const made = Object.assign(document.createElement(tag), properties);
  parent?.append(made);
  return made;
}

const signed = (value, digits) => value.toFixed(digits).replace("-", "−");
const unique = (list) => [...new Set(list)];

function metricOf(row, ...keys) {
  for (const key of keys) {
    const found = row.metrics?.[key];
    if (found && found.valid !== false && found.value !== null && found.value !== undefined) return Number(found.value);
  }
  return NaN;
}

function showHeader() {
  const m = header.manifest ?? {}, facts = [];
  find("run-title").textContent = header.title;
  const add = (name, value, title = "") => { if (value !== undefined && value !== null && value !== "") facts.push([name, String(value), title]); };
  add("version", m.versions?.dualdrive);
  add("seed", m.seed);
  add("scenarios", m.samples ?? unique(header.rows.map((row) => row.scenario)).length);
  add("sample list", m.sample_list_hash?.slice(0, 12), m.sample_list_hash);
  add("started", m.started?.replace("T", " ").replace(/\+00:00$/, " UTC"));
  add("status", m.status);
  for (const [name, value, title] of facts) {
    const box = element("div", { title: title ?? "" }, find("identity"));
    element("dt", { textContent: name }, box);
    element("dd", { textContent: value, className: name === "status" ? `status-${value}` : "" }, box);
  }
  find("config").textContent = header.config || "not stored";
  find("manifest").textContent = JSON.stringify(m, null, 2);
  const notes = header.notes.length ? header.notes : ["Nothing was missing or damaged in the result directory."];
  for (const note of notes) element("p", { textContent: note }, find("notes"));
}

function showOverview() {
  const { columns, runs } = header.overview, table = find("runs");
  const head = element("tr", {}, element("thead", {}, table));
  for (const text of ["Planner", "Traffic", "Completed"]) element("th", { textContent: text, className: text === "Completed" ? "number" : "" }, head);
  for (const column of columns) {
    const cell = element("th", { className: "number", title: column.protocol, tabIndex: 0 }, head);
    cell.append(column.label);
    element("small", { textContent: column.unit }, cell);
  }
  const body = element("tbody", {}, table);
  runs.forEach((run, i) => {
    const line = element("tr", { className: `${isOurs(run.planner) ? "ours" : ""} ${i && runs[i - 1].traffic !== run.traffic ? "group" : ""}` }, body);
    element("td", { textContent: plannerName(run.planner), className: "name", title: run.perception ? `perception ${run.perception}` : "" }, line);
    element("td", { textContent: trafficName(run.traffic) }, line);
    element("td", { textContent: `${run.completed} / ${run.scenarios}`, className: run.valid ? "number" : "number bad" }, line);
    for (const column of columns) showValue(element("td", { className: "number" }, line), column, run, runs);
  });
  showFailed(runs);
}

function showValue(cell, column, run, runs) {
  const value = run.values[column.key];
  if (value === null || value === undefined) {
    cell.textContent = "–";
    return;
  }
  const whole = column.unit === "count" || column.unit === "scenarios" || column.unit === "steps";
  const digits = whole ? 0 : column.key === "score_cls" ? 3 : column.key.startsWith("cycle") ? (value < 10 ? 2 : 0) : 2;
  element("span", { textContent: signed(value, digits) }, cell);
  if (whole && value > 0) cell.classList.add("bad");
  if (column.key !== "score_cls") return;
  if (run.note) element("small", { textContent: run.note }, cell);
  const rivals = runs.filter((other) => other.traffic === run.traffic && other.valid && other.planner !== "expert").map((other) => other.values.score_cls);
  if (!run.valid) {
    cell.classList.add("bad");
    element("small", { textContent: "invalid: not all driven" }, cell);
    cell.title = "A mean over some of the scenarios is no score: coverage is below 100 %.";
  } else if (run.planner !== "expert" && value >= max(rivals.filter(Number.isFinite))) {
    cell.classList.add("best");
    cell.title = "best planner in this traffic (the recorded expert knows the future)";
  }
}

function showFailed(runs) {
  const failed = runs.flatMap((run) => run.failed.map((one) => ({ ...one, run })));
  if (!failed.length) return;
  const box = element("details", { className: "failures", open: true }, find("failed"));
  element("summary", { textContent: `${failed.length} failed ${failed.length === 1 ? "drive" : "drives"}` }, box);
  for (const { scenario, error, run } of failed) {
    const text = error ?? "no reason recorded", last = text.trim().split("\n").at(-1); // of a traceback the last line says what happened
    element("p", { textContent: `${scenario} · ${plannerName(run.planner)} · ${trafficName(run.traffic)}: ${last}` }, box);
    if (last === text.trim()) continue;
    const whole = element("details", {}, box);
    element("summary", { textContent: "where it happened" }, whole);
    element("pre", { textContent: text }, whole);
  }
}

// symbol and class say the same as the colour
function outcome(row) {
  if (row.status !== "completed") return ["failed", "✗", row.error ?? "failed"];
  if (metricOf(row, "at_fault_collisions") > 0) return ["collision", "✸", "at-fault collision"];
  if (metricOf(row, "off_road", "off_road_steps") > 0) return ["offroad", "◭", "off the drivable area"];
  const gates = ["making_progress", "driving_direction", "no_collision", "drivable_area"].filter((name) => metricOf(row, name) < 1);
  if (gates.length) return ["gated", "○", `cut by ${gates.join(", ").replaceAll("_", " ")}`];
  return ["fine", "", "no at-fault collision"];
}

function showMatrix(open) {
  const table = find("matrix"), scenarios = unique(header.rows.map((row) => row.scenario));
  const keys = header.overview.runs.map((run) => [run.planner, run.traffic]), traffics = unique(keys.map(([, traffic]) => traffic));
  const head = element("thead", {}, table), upper = element("tr", {}, head), lower = element("tr", {}, head);
  element("th", { rowSpan: 2, textContent: "Scenario" }, upper);
  for (const traffic of traffics) element("th", { colSpan: keys.filter((key) => key[1] === traffic).length, textContent: trafficName(traffic), className: "span" }, upper);
  for (const [planner] of keys) element("th", { textContent: plannerName(planner) }, lower);
  const body = element("tbody", {}, table);
  for (const scenario of scenarios) {
    const line = element("tr", {}, body);
    element("th", { textContent: scenario, scope: "row" }, line);
    for (const [planner, traffic] of keys) {
      const cell = element("td", {}, line), index = header.rows.findIndex((row) => row.scenario === scenario && row.planner === planner && row.traffic === traffic);
      if (index < 0) continue;
      const row = header.rows[index], [kind, symbol, meaning] = outcome(row), score = metricOf(row, "score_cls", "cls");
      const button = element("button", { className: `cell ${kind}`, title: `${scenario}, ${plannerName(planner)}: ${meaning}` }, cell);
      button.textContent = `${symbol} ${Number.isFinite(score) ? score.toFixed(2) : row.status === "completed" ? "open" : "failed"}`.trim();
      button.dataset.row = index;
      button.style.setProperty("--score", Number.isFinite(score) ? score : 0);
      button.disabled = row.blob === undefined;
      button.addEventListener("click", () => open(index));
    }
  }
  find("matrix-hint").textContent = "CLS score of every drive; click one to watch it. ✸ at-fault collision · ◭ off the road · ○ score cut by another gate · ✗ failed";
}
