// Moments of a drive that are worth a look: each a button that goes there.

function moments(drive) {
  const { row } = drive, found = [];
  const add = (seconds, text, alarm = false) => { if (Number.isFinite(seconds)) found.push({ seconds, text, alarm }); };
  const detail = (name) => row.metrics?.[name]?.detail ?? {};
  for (const hit of detail("collisions").collisions ?? []) {
    add(hit.time, `contact with ${hit.agent_class} ${hit.track_id}, ${hit.at_fault ? "at fault" : "not at fault"} (${hit.kind.replaceAll("_", " ")})`, hit.at_fault);
  }
  const failed = [["off_road", "off the drivable area", (value) => value > 0], ["driving_direction", "against the traffic", (value) => value < 1],
    ["speed_limit", "fastest above the limit", (value) => value < 1], ["time_to_collision", "shortest time to collision", (value) => value < 1]];
  for (const [name, text, bad] of failed) if (bad(metricOf(row, name))) add(detail(name).time, text, true);
  if (metricOf(row, "min_gap") > 0) add(detail("min_gap").time, `smallest gap ${metricOf(row, "min_gap").toFixed(2)} m, object ${detail("min_gap").track_id}`);
  for (const [from, to, source] of stretches(drive)) {
    const reason = drive.reason(from), seconds = ((to - from) * drive.dt).toFixed(1);
    add(drive.time[from], `${sourceText[source] ?? source} for ${seconds} s${reason ? `: ${reason}` : ""}`, source === "braking");
  }
  drive.pictures.traffic.forEach((word, step) => { if (word >= 0) add(drive.time[step], `traffic: ${drive.word(word)}`); });
  const dearest = dearestStep(drive);
  if (dearest !== null) add(drive.time[dearest], `dearest constraint: ${ruleText({ ...drive.active(dearest)[0], margin: NaN })}`);
  return found.sort((a, b) => a.seconds - b.seconds);
}

// runs of steps driven by the fallback: [from, to), source
function stretches(drive) {
  const found = [];
  for (let step = 0; step < drive.steps; step++) {
    const source = drive.source(step), last = found.at(-1);
    if (source !== "tail" && source !== "braking") continue;
    if (last && last[1] === step && last[2] === source) last[1] = step + 1;
    else found.push([step, step + 1, source]);
  }
  return found;
}

function dearestStep(drive) {
  if (!drive.full || !drive.pictures.active.dual.length) return null;
  const { dual } = drive.pictures.active, row = dual.indexOf(max(dual)), at = drive.at.active;
  return row < 0 ? null : at.findIndex((start, step) => start <= row && row < at[step + 1]);
}

function showMoments(drive, seek) {
  find("moments").replaceChildren(...moments(drive).map(({ seconds, text, alarm }) => {
    const button = element("button", { className: alarm ? "alarm" : "" });
    element("b", { textContent: `${(seconds - drive.time[0]).toFixed(1)} s` }, button);
    button.append(text);
    button.addEventListener("click", () => seek(seconds));
    return button;
  }));
}
