// What the bird's-eye view can show. Each layer draws in world coordinates; `px` is one pixel in metres.

const layers = [
  { key: "map", label: "Map", swatch: "area:road" },
  { key: "route", label: "Route", swatch: "band:route" },
  { key: "agents", label: "Agents", swatch: "box:0" },
  { key: "perceived", label: "Perceived by the network; ring: not", swatch: "outline:seen", learned: true },
  { key: "modes", label: "Predictions, 2σ", swatch: "fan:mode", full: true },
  { key: "candidates", label: "Candidates", swatch: "thin:solved", full: true },
  { key: "plan", label: "Chosen plan", swatch: "thick:plan" },
  { key: "tail", label: "Fail-safe tail", swatch: "dash:tail", full: true },
  { key: "active", label: "Active constraints", swatch: "diamond", full: true },
  { key: "reference", label: "Reference path", swatch: "dots:muted", full: true, off: true },
  { key: "expert", label: "Recorded expert", swatch: "ghost:expert" },
  { key: "path", label: "Driven path", swatch: "thin:ego" },
  { key: "labels", label: "Ids", swatch: "text", off: true },
];

const PERCEPTION_REACH = 50; // m: agents beyond it nobody expects to be told

const paths = new WeakMap(); // Path2D objects of a scene's map, built once

function mapPaths(scene) {
  if (paths.has(scene)) return paths.get(scene);
  const collect = (lines) => (lines ?? []).reduce((path, xy) => trace(path, xy), new Path2D());
  const arrows = new Path2D();
  for (const xy of scene.lanes ?? []) addArrows(arrows, xy);
  const result = {
    drivable: collect(scene.drivable), lanes: collect(scene.lanes), dividers: collect(scene.dividers),
    crossings: collect(scene.crossings), stops: collect(scene.stop_lines), arrows,
    route: collect(scene.route ? [scene.route] : []),
  };
  paths.set(scene, result);
  return result;
}

function trace(path, xy) {
  for (let i = 0; i < xy.length; i += 2) path[i ? "lineTo" : "moveTo"](xy[i], xy[i + 1]);
  return path;
}

function addArrows(path, xy, every = 18) {
  let left = every / 2;
  for (let i = 2; i < xy.length; i += 2) {
    const dx = xy[i] - xy[i - 2], dy = xy[i + 1] - xy[i - 1], length = Math.hypot(dx, dy);
    for (let at = left; at < length; at += every) {
      const [ux, uy] = [dx / length, dy / length], x = xy[i - 2] + ux * at, y = xy[i - 1] + uy * at;
      path.moveTo(x - 0.7 * ux - 0.4 * uy, y - 0.7 * uy + 0.4 * ux);
      path.lineTo(x, y);
      path.lineTo(x - 0.7 * ux + 0.4 * uy, y - 0.7 * uy - 0.4 * ux);
    }
    left = ((left - length) % every + every) % every;
  }
}

function stroke(g, path, colour, width, dash = [], alpha = 1) {
  Object.assign(g, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha, lineJoin: "round", lineCap: dash.length ? "butt" : "round" });
  g.setLineDash(dash);
  g.stroke(path);
  g.setLineDash([]);
  g.globalAlpha = 1;
}

function drawMap(g, scene, px, show) {
  const c = colours(), map = mapPaths(scene);
  if (show.map) {
    g.fillStyle = c.road;
    g.fill(map.drivable, "evenodd");
    g.fillStyle = c.crossing;
    g.globalAlpha = 0.55;
    g.fill(map.crossings);
    g.globalAlpha = 1;
    stroke(g, map.crossings, c.crossing, Math.max(0.25, px));
    stroke(g, map.drivable, c.edge, Math.max(0.12, 1.2 * px));
    stroke(g, map.lanes, c.lane, px, [1.5, 2.5]);
    if (px < 0.35) stroke(g, map.arrows, c.lane, Math.max(0.12, px));
    stroke(g, map.dividers, c.divider, Math.max(0.1, px), [2, 1.6]);
    stroke(g, map.stops, c.stop, Math.max(0.35, 1.5 * px));
  }
  if (show.route) stroke(g, map.route, c.route, 2.6);
}

function drawModes(g, camera, drive, step, px, chosen) {
  const c = colours();
  for (const mode of drive.modes(step)) {
    const [x, y] = mode.xy, end = mode.xy.length - 2;
    if (!camera.sees((x + mode.xy[end]) / 2, (y + mode.xy[end + 1]) / 2, Math.hypot(mode.xy[end] - x, mode.xy[end + 1] - y) + 4)) continue;
    const focus = chosen === null || chosen === mode.id;
    const alpha = (0.2 + 0.8 * mode.p) * (focus ? 1 : 0.25);
    g.fillStyle = c.mode;
    for (let i = 0; i < mode.sigma.length; i++) {
      const fade = 1.5 / (1.5 + mode.sigma[i] ** 2); // a wide disc says little: it must not hide the scene
      g.globalAlpha = (chosen === mode.id ? 0.3 : 0.12) * alpha * fade;
      g.beginPath();
      g.arc(mode.xy[2 * i], mode.xy[2 * i + 1], 2 * mode.sigma[i], 0, 2 * Math.PI);
      g.fill();
    }
    // later parts of a prediction are fainter: they are less certain
    for (let i = 0; i + 3 < mode.xy.length; i += 2) {
      const part = trace(new Path2D(), mode.xy.subarray(i, i + 4));
      stroke(g, part, c.mode, (focus && chosen !== null ? 2.4 : 1.4) * px, [], alpha * (1 - 0.7 * i / mode.xy.length));
    }
  }
  g.globalAlpha = 1;
}

function drawPlans(g, drive, step, px, show) {
  const c = colours();
  if (show.reference && drive.reference(step)) stroke(g, trace(new Path2D(), drive.reference(step)), c.muted, px, [2 * px, 4 * px]);
  if (show.candidates) {
    const rejected = new Set(drive.findings("rejected", step).map((row) => row.decision));
    for (const candidate of drive.candidates(step)) {
      const colour = rejected.has(candidate.decision) ? c.rejected : candidate.status === "solved" ? c.solved : c.unsolved;
      stroke(g, trace(new Path2D(), candidate.xy), colour, 1.4 * px, candidate.status === "solved" ? [] : [3 * px, 3 * px], 0.85);
    }
  }
  if (show.plan && drive.plan(step)) stroke(g, trace(new Path2D(), drive.plan(step)), c.plan, 5 * px, [], 0.85);
  if (show.tail && drive.tail(step)) stroke(g, trace(new Path2D(), drive.tail(step)), c.tail, 3 * px, [8 * px, 5 * px]);
  const tail = show.tail ? drive.tail(step) : null;
  if (tail) cross(g, tail[tail.length - 2], tail[tail.length - 1], 5 * px, c.tail, 2.5 * px);
}

function cross(g, x, y, size, colour, width) {
  const path = new Path2D();
  for (const side of [1, -1]) { path.moveTo(x - size, y - side * size); path.lineTo(x + size, y + side * size); }
  stroke(g, path, colour, width);
}

// rectangle with a nose; (x, y) its centre
function box(g, x, y, yaw, length, width) {
  const path = new Path2D(), c = Math.cos(yaw), s = Math.sin(yaw);
  const point = (u, v) => [x + c * u * length / 2 - s * v * width / 2, y + s * u * length / 2 + c * v * width / 2];
  const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([u, v]) => point(u, v));
  corners.forEach((corner, i) => path[i ? "lineTo" : "moveTo"](...corner));
  path.closePath();
  const nose = new Path2D();
  nose.moveTo(...point(0.45, -0.75));
  nose.lineTo(...point(0.95, 0));
  nose.lineTo(...point(0.45, 0.75));
  return { path, nose };
}

function egoBox(g, drive, pose) {
  const [length, width, forward] = drive.scene.vehicle;
  return box(g, pose.x + Math.cos(pose.yaw) * forward, pose.y + Math.sin(pose.yaw) * forward, pose.yaw, length, width);
}

function drawAgents(g, camera, drive, seconds, px, marks) {
  const c = colours();
  for (const i of drive.present(drive.step(seconds))) {
    const agent = drive.agent(i, seconds), colour = c.classes[agent.kind] ?? c.muted;
    if (!camera.sees(agent.x, agent.y, agent.length)) continue;
    // at least 4 pixels, so that a pedestrian is seen from far
    const shape = box(g, agent.x, agent.y, agent.yaw, Math.max(agent.length, 4 * px), Math.max(agent.width, 4 * px));
    g.fillStyle = colour;
    g.globalAlpha = agent.speed > 0.3 || agent.kind === 5 ? 0.95 : 0.55;
    g.fill(shape.path);
    g.globalAlpha = 1;
    if (agent.kind !== 6 && agent.length > 9 * px) stroke(g, shape.nose, c.halo, Math.max(1.2 * px, 0.08));
    if (marks.has(agent.id)) ring(g, agent, marks.get(agent.id), px);
  }
}

// outlines of what perception told, opacity by existence; a dotted ring around who is there and in reach, but not told
function drawPerceived(g, camera, drive, step, seconds, px, marks) {
  const c = colours(), told = drive.perceived(step), ego = drive.ego(seconds);
  for (const i of drive.present(step)) {
    const agent = drive.agent(i, seconds);
    const near = (box) => Math.hypot(box.x - agent.x, box.y - agent.y) < Math.max(1, (agent.length + agent.width) / 3);
    if (!camera.sees(agent.x, agent.y, agent.length) || Math.hypot(agent.x - ego.x, agent.y - ego.y) > PERCEPTION_REACH || told.some(near)) continue;
    const path = new Path2D();
    path.arc(agent.x, agent.y, Math.hypot(agent.length, agent.width) / 2 + 4 * px, 0, 2 * Math.PI);
    stroke(g, path, c.missed, 2 * px, [2 * px, 3 * px]);
  }
  for (const seen of told) {
    if (!camera.sees(seen.x, seen.y, seen.length)) continue;
    const shape = box(g, seen.x, seen.y, seen.yaw, Math.max(seen.length, 4 * px), Math.max(seen.width, 4 * px));
    stroke(g, shape.path, c.seen, 1.8 * px, [], 0.25 + 0.75 * seen.p);
    if (marks.has(seen.id)) ring(g, seen, marks.get(seen.id), px);
  }
}

function ring(g, agent, colour, px) {
  const path = new Path2D();
  path.arc(agent.x, agent.y, Math.hypot(agent.length, agent.width) / 2 + 5 * px, 0, 2 * Math.PI);
  stroke(g, path, colours().halo, 5 * px);
  stroke(g, path, colour, 2.5 * px);
}

function drawEgo(g, drive, seconds, px) {
  const c = colours(), shape = egoBox(g, drive, drive.ego(seconds));
  g.fillStyle = c.ego;
  g.fill(shape.path);
  stroke(g, shape.path, c.halo, 1.5 * px);
  stroke(g, shape.nose, c.halo, Math.max(1.5 * px, 0.1));
}

function drawGhost(g, drive, pose, colour, px) {
  const shape = egoBox(g, drive, pose);
  stroke(g, shape.path, colour, 2 * px, [5 * px, 3 * px]);
  stroke(g, shape.nose, colour, 1.5 * px);
}

function drawConstraints(g, camera, drive, step, seconds, px) {
  const c = colours(), [right, up] = [Math.cos(camera.turn), Math.sin(camera.turn)]; // upright on the screen
  for (const row of drive.active(step).reverse()) {
    const object = row.id ? drive.agentById(row.id, seconds) : null;
    const place = row.xy ?? (object ? [object.x, object.y] : null);
    if (!place) continue;
    const colour = dualColour(drive.dualFraction(row.dual)), size = (5 + 4 * Math.min(Math.max(drive.dualFraction(row.dual), 0), 1)) * px;
    if (object && row.xy) stroke(g, trace(new Path2D(), [object.x, object.y, ...row.xy]), colour, 1.5 * px, [3 * px, 3 * px], 0.8);
    const [x, y] = place, corners = [[-1, 0], [0, -1], [1, 0], [0, 1]].flatMap(([u, v]) => [x + size * (right * u + up * v), y + size * (right * v - up * u)]);
    const diamond = trace(new Path2D(), corners);
    diamond.closePath();
    g.fillStyle = colour;
    g.fill(diamond);
    stroke(g, diamond, c.halo, 1.2 * px);
  }
}

function label(g, camera, x, y, text, colour) {
  const [px, py] = camera.toScreen(x, y);
  if (px < -40 || py < -20 || px > camera.width + 40 || py > camera.height + 20) return;
  Object.assign(g, { font: "11px system-ui, sans-serif", textAlign: "center", textBaseline: "bottom", lineWidth: 3, strokeStyle: colours().halo, fillStyle: colour });
  g.strokeText(text, px, py - 7);
  g.fillText(text, px, py - 7);
}
