// Mouse, touch, keyboard and the start of the page.

function press(key, shift) {
  const { drive } = state;
  if (!drive) return false;
  const stride = (shift ? 10 : 1) * drive.dt, zoom = { "+": 1.25, "=": 1.25, "-": 0.8, "−": 0.8 }[key];
  if (key === " ") play(!state.playing);
  else if (key === "ArrowLeft" || key === "ArrowRight") { play(false); seek(drive.time[drive.step(state.seconds)] + (key === "ArrowRight" ? stride : -stride)); }
  else if (key === "Home") seek(drive.time[0]);
  else if (key === "End") seek(drive.time[drive.steps - 1]);
  else if (zoom) camera.zoom(zoom);
  else if (key === "f" || key === "F") view("follow");
  else if (key === "h" || key === "H") view("heading");
  else if (key === "0") view("fit");
  else return false;
  refresh();
  return true;
}

function view(action) {
  if (action === "in") camera.zoom(1.25);
  if (action === "out") camera.zoom(0.8);
  if (action === "follow") state.follow = !state.follow;
  if (action === "heading") state.heading = !state.heading;
  if (action === "fit" && state.drive) {
    Object.assign(state, { follow: false, heading: false });
    camera.fit(state.drive.motion.xy);
  }
  showViewButtons();
  refresh();
}

function showViewButtons() {
  for (const button of document.querySelectorAll("[data-view].toggle")) button.setAttribute("aria-pressed", String(state[button.dataset.view]));
}

const pointers = new Map();

function pointerMoved(event) {
  const before = pointers.get(event.pointerId);
  if (!before) return point(event);
  const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
  if (others.length) { // pinch
    const [a] = others, span = (p) => Math.hypot(p.x - a.x, p.y - a.y) || 1;
    camera.zoom(span({ x: event.offsetX, y: event.offsetY }) / span(before), (a.x + event.offsetX) / 2, (a.y + event.offsetY) / 2);
  } else {
    if (Math.hypot(event.offsetX - before.x0, event.offsetY - before.y0) > 4 && state.follow) { state.follow = false; showViewButtons(); }
    if (!state.follow) camera.pan(event.offsetX - before.x, event.offsetY - before.y);
  }
  pointers.set(event.pointerId, { ...before, x: event.offsetX, y: event.offsetY });
  refresh();
}

function under(event) {
  const { drive, seconds } = state;
  if (!drive) return null;
  const [x, y] = camera.toWorld(event.offsetX, event.offsetY), slack = 4 / camera.scale;
  let best = null, nearest = Infinity;
  const step = drive.step(seconds), named = drive.learned ? drive.perceived(step) : drive.present(step).map((i) => drive.agent(i, seconds));
  for (const agent of named) {
    const dx = x - agent.x, dy = y - agent.y, c = Math.cos(agent.yaw), s = Math.sin(agent.yaw);
    const inside = Math.abs(c * dx + s * dy) < agent.length / 2 + slack && Math.abs(c * dy - s * dx) < agent.width / 2 + slack;
    if (inside && Math.hypot(dx, dy) < nearest) { nearest = Math.hypot(dx, dy); best = agent; }
  }
  return best;
}

function point(event) {
  const agent = under(event), tip = find("tip");
  tip.hidden = !agent;
  canvas.style.cursor = agent ? "pointer" : "grab";
  if ((agent?.id ?? null) !== state.hovered) { state.hovered = agent?.id ?? null; refresh(); }
  if (!agent) return;
  const ego = state.drive.ego(state.seconds);
  tip.textContent = `${header.classes[agent.kind] ?? "object"} ${agent.id} · ${agent.speed === undefined ? `existence ${agent.p.toFixed(2)}` : `${agent.speed.toFixed(1)} m/s`} · ${agent.length.toFixed(1)} × ${agent.width.toFixed(1)} m · ${Math.hypot(agent.x - ego.x, agent.y - ego.y).toFixed(0)} m away`;
  tip.style.left = `${Math.max(0, Math.min(event.offsetX + 14, camera.width - tip.offsetWidth - 6))}px`;
  tip.style.top = `${Math.max(event.offsetY - 34, 4)}px`;
}

function connect() {
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const centred = state.follow;
    camera.zoom(Math.exp(-event.deltaY * 0.0015), ...(centred ? [] : [event.offsetX, event.offsetY]));
    refresh();
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY, x0: event.offsetX, y0: event.offsetY });
  });
  canvas.addEventListener("pointermove", pointerMoved);
  const released = (event) => {
    const start = pointers.get(event.pointerId);
    pointers.delete(event.pointerId);
    if (start && Math.hypot(event.offsetX - start.x0, event.offsetY - start.y0) < 4) {
      const agent = under(event);
      state.chosen = agent && agent.id !== state.chosen ? agent.id : null;
      refresh();
    }
  };
  canvas.addEventListener("pointerup", released);
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => { state.hovered = null; find("tip").hidden = true; refresh(); });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("select, summary, button, input:not([type=range])");
    if (event.ctrlKey || event.metaKey || event.altKey || (typing && !event.key.startsWith("Arrow") && event.key !== " ") || event.target.matches?.("select")) return;
    if (event.key === " " && event.target.matches?.("button, summary, input[type=checkbox]")) return;
    if (press(event.key, event.shiftKey)) event.preventDefault();
  });
  find("play").addEventListener("click", () => play(!state.playing));
  find("back").addEventListener("click", () => press("ArrowLeft"));
  find("forward").addEventListener("click", () => press("ArrowRight"));
  find("scrub").addEventListener("input", (event) => { play(false); seek(state.drive.time[event.target.value]); });
  for (const value of [0.25, 0.5, 1, 2, 4]) element("option", { value, textContent: `${value}×`, selected: value === 1 }, find("rate"));
  find("rate").addEventListener("change", (event) => { state.rate = Number(event.target.value); });
  for (const id of ["scenario", "traffic", "planner"]) find(id).addEventListener("change", choose);
  find("compare").addEventListener("change", (event) => compareWith(event.target.value));
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => view(button.dataset.view));
  find("theme").addEventListener("click", () => { document.documentElement.dataset.theme = themeName() === "dark" ? "light" : "dark"; restyle(); });
  systemDark.addEventListener("change", restyle);
  new ResizeObserver(restyle).observe(find("player"));
}

function restyle() {
  paintSwatches();
  if (state.drive) { showDualLegend(state.drive); drawStrip(state.drive); }
  refresh();
}

function fail(reason) {
  const box = find("errors");
  box.hidden = false;
  element("p", { textContent: `The page met an error: ${reason?.stack ?? reason}` }, box);
}

window.addEventListener("error", (event) => fail(event.error ?? event.message));
window.addEventListener("unhandledrejection", (event) => fail(event.reason));

// report.html#scenario/planner/traffic/seconds opens that moment
const link = () => decodeURIComponent(location.hash.slice(1)).split("/");
const linked = (row) => [row.scenario, row.planner, row.traffic].every((name, i) => name === link()[i]);

async function start() {
  showHeader();
  showOverview();
  showMatrix((index) => open(index));
  makePlots();
  showLayerToggles(state.show, refresh);
  connect();
  showViewButtons();
  paintSwatches();
  const shown = (wanted) => header.rows.findIndex((row) => row.blob !== undefined && wanted(row));
  const first = [linked, (row) => isOurs(row.planner), () => true].map(shown).find((index) => index >= 0);
  const seconds = Number(link()[3]);
  if (first === undefined) say("No drive of this run can be shown.");
  else await open(first, { scroll: linked(header.rows[first]) });
  if (seconds > 0) seek(seconds);
  document.documentElement.dataset.ready = "true";
}

// for tests and for people in the console
window.dualdrive = { unpack, state, camera, plots, header, open, seek, play, view, draw, Drive, find };
start();
