// Everything beside the view that changes with the step: badges, explanation, constraints, candidates, metrics.

const sourceText = { candidate: "candidate plan", tail: "fail-safe tail", braking: "maximum braking", baseline: "baseline", replay: "recorded motion" };

function showBadges(drive, step) {
  const box = find("badges"), source = drive.source(step), verdict = drive.verdict(step), badges = [];
  const driven = element("span", { className: "badge" });
  element("i", {}, driven).style.background = colours().sources[source] ?? colours().muted;
  driven.append(`driving: ${sourceText[source] ?? source}`);
  badges.push(driven);
  if (verdict) {
    const worst = verdict.violations[0];
    const text = verdict.accepted ? "✓ checker accepted" : `✗ checker rejected${worst ? `: ${ruleText(worst)}` : ""}`;
    badges.push(element("span", { className: `badge ${verdict.accepted ? "good" : "bad"}`, textContent: text }));
  }
  if (drive.motion.min_gap[step] <= 0) badges.push(element("span", { className: "badge bad", textContent: "✸ contact" }));
  const state = drive.state(step);
  if (state && state !== "NORMAL") badges.push(element("span", { className: "badge bad", textContent: state }));
  box.replaceChildren(...badges);
}

function ruleText({ rule, id, time, margin }) {
  const parts = [rule.replaceAll("_", " ")];
  if (id) parts.push(`object ${id}`);
  if (Number.isFinite(time)) parts.push(`at ${time.toFixed(1)} s`);
  if (Number.isFinite(margin)) parts.push(`margin ${signed(margin, 2)}`);
  return parts.join(", ");
}

function showStatus(drive, step) {
  const rows = [
    ["speed", `${drive.motion.v[step].toFixed(1)} m/s`, `${(3.6 * drive.motion.v[step]).toFixed(0)} km/h`],
    ["accel.", `${signed(drive.motion.a[step], 2)} m/s²`],
    ["gap", Number.isFinite(drive.motion.min_gap[step]) ? `${signed(drive.motion.min_gap[step], 2)} m` : "no object"],
    ["state", drive.state(step) || "–"],
    ["tail", drive.full ? (drive.motion.tail_accepted[step] > 0.5 ? "accepted" : "none accepted") : "–"],
    ["off plan", fixed(drive.pictures.off_plan[step] * 100, 1) + " cm", "distance of the driven from the planned position, one step after the plan"],
  ];
  if (drive.reason(step)) rows.push(["reason", drive.reason(step)]);
  find("status").replaceChildren(...rows.map(([name, value, more]) => {
    const line = element("div", {});
    element("span", { textContent: name }, line);
    element("b", { textContent: value, title: more ?? "" }, line);
    return line;
  }));
  const text = drive.explanation(step);
  find("explanation").textContent = text === drive.reason(step) ? "" : text;
}

// rows of one rule about one object at several times in one line; `dual` of the dearest, `total` of all
function byRule(rows) {
  const groups = new Map();
  for (const row of rows) {
    const key = `${row.rule}|${row.id}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()].map((list) => {
    const times = list.map((row) => row.time), [first, last] = [min(times), max(times)];
    return {
      ...list[0], when: first === last ? fixed(first, 1) : `${fixed(first, 1)}–${fixed(last, 1)}`,
      margin: min(list.map((row) => row.margin)), total: list.reduce((sum, row) => sum + row.dual, 0),
    };
  });
}

function showConstraints(drive, step, hover) {
  find("constraints-box").hidden = find("candidates-box").hidden = !drive.full;
  if (!drive.full) return;
  const rows = byRule(drive.active(step)).slice(0, 8), table = find("constraints");
  const head = element("tr", {});
  for (const [text, title] of [["rule", ""], ["object", ""], ["in s", "seconds ahead of now"], ["margin", "in the unit of the rule: m, m/s …"], ["price", "dual: cost saved per unit by which the rule would be relaxed; summed over the times"]]) {
    element("th", { textContent: text, title }, head);
  }
  table.replaceChildren(head, ...rows.map((row) => {
    const line = element("tr", {});
    const name = element("td", { title: row.rule }, line);
    element("i", { className: "diamond" }, name).style.background = dualColour(drive.dualFraction(row.dual));
    name.append(row.rule.replaceAll("_", " "));
    for (const text of [row.id || "–", row.when, fixed(row.margin, 2), Number.isFinite(row.total) ? short(row.total) : "–"]) element("td", { textContent: text }, line);
    line.addEventListener("pointerenter", () => hover(row.id || null));
    line.addEventListener("pointerleave", () => hover(null));
    return line;
  }));
  if (!rows.length) element("td", { textContent: "No hard constraint is active.", colSpan: 5 }, element("tr", {}, table));
  showCandidates(drive, step);
}

const fixed = (value, digits) => Number.isFinite(value) ? signed(value, digits) : "–";

function showCandidates(drive, step) {
  const rejected = new Map(drive.findings("rejected", step).map((row) => [row.decision, row]));
  const rows = drive.candidates(step).map((candidate) => {
    const refused = rejected.get(candidate.decision), c = colours();
    const line = element("tr", { title: refused ? `rejected by the checker: ${ruleText(refused)}` : candidate.kind });
    const name = element("td", {}, line);
    element("i", { className: "dot" }, name).style.background = refused ? c.rejected : candidate.status === "solved" ? c.solved : c.unsolved;
    name.append(candidate.decision || candidate.kind);
    element("td", { textContent: refused ? `rejected: ${refused.rule.replaceAll("_", " ")}` : candidate.status.replaceAll("_", " ") }, line);
    element("td", { textContent: Number.isFinite(candidate.cost) ? short(candidate.cost) : "–" }, line);
    return line;
  });
  const head = element("tr", {});
  for (const text of ["decision", "status", "cost"]) element("th", { textContent: text }, head);
  find("candidates").replaceChildren(head, ...rows);
}

function showMetrics(row) {
  const entries = Object.entries(row.metrics ?? {});
  find("metrics-box").hidden = entries.length === 0;
  find("metrics").replaceChildren(...entries.map(([name, found]) => {
    const line = element("tr", { title: found?.detail ? JSON.stringify(found.detail) : "" }), value = found?.value;
    element("td", { textContent: name.replaceAll("_", " ") }, line);
    const text = value === null || value === undefined ? "–" : typeof value === "number" ? short(value) : String(value);
    element("td", { textContent: `${text} ${found?.unit ?? ""}${found?.valid === false ? " (does not apply)" : ""}` }, line);
    return line;
  }));
}

function showLayerToggles(show, changed) {
  for (const layer of layers) {
    const item = element("label", {}, find("layers"));
    const input = element("input", { type: "checkbox", checked: show[layer.key] }, item);
    input.dataset.layer = layer.key;
    if (layer.full) item.dataset.full = "";
    if (layer.learned) item.dataset.learned = "";
    const [kind, colour] = layer.swatch.split(":");
    element("i", { className: `swatch ${kind}` }, item).dataset.colour = colour ?? "";
    item.append(layer.label);
    input.addEventListener("change", () => { show[layer.key] = input.checked; changed(); });
  }
  const classes = element("p", { className: "classes" }, find("layers"));
  header.classes.forEach((name, kind) => {
    if (name === "bus" || name === "bicycle") return; // share the colour of the class before
    const item = element("span", {}, classes);
    element("i", { className: "swatch box" }, item).dataset.colour = String(kind);
    item.append({ truck: "truck, bus", motorcycle: "motorcycle, bicycle", static: "obstacle" }[name] ?? name);
  });
}

function paintSwatches() {
  const c = colours();
  for (const swatch of document.querySelectorAll(".swatch")) {
    const key = swatch.dataset.colour;
    swatch.style.color = c.classes[key] ?? c[key] ?? c.duals[2];
  }
}

// baselines have fewer layers; what they do have is their metrics
function showKind(drive) {
  find("player").classList.toggle("full", drive.full);
  for (const item of document.querySelectorAll("[data-full]")) item.classList.toggle("absent", !drive.full);
  for (const item of document.querySelectorAll("[data-learned]")) item.classList.toggle("absent", !drive.learned);
  find("metrics-box").open = !drive.full;
}

function showDualLegend(drive) {
  const box = find("dual-legend");
  box.hidden = !drive.full || !(drive.pictures.active.dual.length > 0);
  const [low, high] = drive.full ? drive.dualRange : [0, 1];
  const bar = element("i", {});
  bar.style.background = `linear-gradient(90deg, ${colours().duals.join(", ")})`;
  box.replaceChildren(
    element("span", { textContent: "price of active constraints (dual)" }), bar,
    element("span", { className: "ends" }));
  box.lastChild.append(element("em", { textContent: `≤ ${short(low)}` }), element("em", { textContent: `≥ ${short(high)}` }));
}

// what was driven at every step, under the scrub bar
function drawStrip(drive) {
  const canvas = find("strip"), ratio = window.devicePixelRatio || 1, size = canvas.getBoundingClientRect();
  Object.assign(canvas, { width: Math.max(1, Math.round(size.width * ratio)), height: Math.max(1, Math.round(size.height * ratio)) });
  const g = canvas.getContext("2d"), c = colours(), w = canvas.width / drive.steps;
  let refused = false;
  for (let step = 0; step < drive.steps; step++) {
    g.fillStyle = c.sources[drive.source(step)] ?? c.muted;
    g.fillRect(step * w, canvas.height * 0.35, w + 0.5, canvas.height * 0.65);
    if (drive.verdict(step)?.accepted === false || drive.findings("rejected", step).length) {
      refused = true;
      g.fillStyle = c.alarm;
      g.fillRect(step * w, 0, Math.max(w, ratio), canvas.height * 0.3);
    }
  }
  const used = unique(Array.from({ length: drive.steps }, (_, step) => drive.source(step)));
  find("strip-legend").replaceChildren(...used.map((source) => {
    const item = element("span", {});
    element("i", {}, item).style.background = c.sources[source] ?? c.muted;
    const count = Array.from({ length: drive.steps }, (_, step) => drive.source(step)).filter((other) => other === source).length;
    item.append(`${sourceText[source] ?? source} ${count} of ${drive.steps} steps`);
    return item;
  }), ...(refused ? [element("span", { textContent: "marks above the bar: the checker rejected a candidate" })] : []));
}
