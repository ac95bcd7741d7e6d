// Line plots over time that share one cursor. Small on purpose: a plotting library would outweigh all results.

class Plot {
  constructor(parent, title, unit, seek) {
    this.root = element("figure", { className: "plot" }, parent);
    const head = element("figcaption", {}, this.root);
    element("b", { textContent: title }, head);
    element("span", { textContent: unit, className: "unit" }, head);
    this.legend = element("span", { className: "values" }, head);
    this.canvas = element("canvas", {}, this.root);
    this.canvas.setAttribute("aria-label", `${title} in ${unit} over time in s`);
    Object.assign(this, { title, unit, series: [], range: [0, 1], time: [0, 1], margin: { left: 44, right: 8, top: 6, bottom: 20 } });
    const at = (event) => seek(this.seconds(event.offsetX));
    this.canvas.addEventListener("pointerdown", (event) => { this.canvas.setPointerCapture(event.pointerId); at(event); });
    this.canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) at(event); });
  }

  // series: [{ label, colour: () => css, time, values, dash, width }]; the axis reaches at least from `from` to `to`
  show(series, span, { from, to, log = false } = {}) {
    this.series = series.filter((one) => one.values.some(Number.isFinite));
    const values = this.series.flatMap((one) => Array.from(one.values).filter(Number.isFinite));
    let [low, high] = values.length ? [min(values), max(values)] : [0, 1];
    low = Math.min(low, from ?? low);
    high = Math.max(high, to ?? high);
    const pad = Math.max((high - low) * 0.08, 1e-3 * Math.max(Math.abs(high), 1));
    this.range = [low === from ? from : low - pad, high + pad];
    if (log) this.range = [Math.max(high / 1e4, 1e-9), Math.max(high, 1e-6) * 1.5];
    Object.assign(this, { time: span, log });
    this.root.hidden = this.series.length === 0;
  }

  x(seconds) {
    const { left, right } = this.margin, [t0, t1] = this.time;
    return left + (this.width - left - right) * (seconds - t0) / (t1 - t0 || 1);
  }
  y(value) {
    const { top, bottom } = this.margin, scaled = this.log ? (v) => Math.log10(Math.max(v, this.range[0])) : (v) => v;
    const [low, high] = this.range.map(scaled);
    return top + (this.height - top - bottom) * (1 - (scaled(value) - low) / (high - low || 1));
  }
  seconds(px) {
    const { left, right } = this.margin, [t0, t1] = this.time;
    return t0 + (t1 - t0) * Math.min(Math.max((px - left) / (this.width - left - right), 0), 1);
  }

  draw(now) {
    if (this.root.hidden) return;
    const ratio = window.devicePixelRatio || 1, size = this.canvas.getBoundingClientRect();
    Object.assign(this, { width: Math.max(size.width, 60), height: Math.max(size.height, 40) });
    const [w, h] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
    const g = this.canvas.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, this.width, this.height);
    this.axes(g);
    for (const one of this.series) this.curve(g, one);
    this.cursor(g, now);
    this.readout(now);
  }

  axes(g) {
    const c = colours(), { left, right, top, bottom } = this.margin;
    Object.assign(g, { strokeStyle: c.grid, fillStyle: c.muted, lineWidth: 1, font: "10.5px system-ui, sans-serif", textBaseline: "middle", textAlign: "right" });
    const values = this.log ? decades(...this.range) : ticks(...this.range, 4), digits = decimals(values);
    for (const value of values) {
      const y = Math.round(this.y(value)) + 0.5;
      strokeLine(g, left, y, this.width - right, y);
      g.fillText(this.log ? String(+value.toPrecision(1)) : signed(value, digits), left - 6, y);
    }
    Object.assign(g, { textBaseline: "top", textAlign: "center" });
    const times = ticks(...this.time, Math.max(2, Math.floor(this.width / 70)));
    times.forEach((value, i) => {
      const x = Math.round(this.x(value)) + 0.5;
      strokeLine(g, x, top, x, this.height - bottom);
      g.textAlign = x > this.width - 16 ? "right" : "center";
      g.fillText(`${+value.toFixed(2)}${i === times.length - 1 ? " s" : ""}`, x, this.height - bottom + 5);
    });
    if (!this.log && this.range[0] < 0 && this.range[1] > 0) {
      g.strokeStyle = c.muted;
      strokeLine(g, left, Math.round(this.y(0)) + 0.5, this.width - right, Math.round(this.y(0)) + 0.5);
    }
  }

  curve(g, { time, values, colour, dash = [], width = 1.6 }) {
    g.save();
    g.beginPath();
    g.rect(this.margin.left, this.margin.top - 2, this.width - this.margin.left - this.margin.right, this.height - this.margin.top - this.margin.bottom + 4);
    g.clip();
    g.beginPath();
    let drawing = false;
    for (let i = 0; i < values.length; i++) {
      const [x, y] = [this.x(time[i]), this.y(values[i])];
      if (Number.isFinite(values[i]) && !drawing) g.moveTo(x - 0.5, y); // so that a value without neighbours is seen
      if (Number.isFinite(values[i])) g.lineTo(x, y);
      drawing = Number.isFinite(values[i]);
    }
    Object.assign(g, { strokeStyle: colour(), lineWidth: width, lineJoin: "round" });
    g.setLineDash(dash);
    g.stroke();
    g.restore();
  }

  cursor(g, now) {
    const x = this.x(now), c = colours();
    Object.assign(g, { strokeStyle: c.text, lineWidth: 1 });
    strokeLine(g, x, this.margin.top, x, this.height - this.margin.bottom);
    for (const { time, values, colour } of this.series) {
      const value = sample(time, values, now);
      if (!Number.isFinite(value) || value > this.range[1] || value < this.range[0]) continue;
      g.fillStyle = colour();
      g.beginPath();
      g.arc(x, this.y(value), 3, 0, 2 * Math.PI);
      g.fill();
    }
  }

  readout(now) {
    this.legend.replaceChildren(...this.series.map(({ label, colour, time, values, dash }) => {
      const item = element("span", {}), value = sample(time, values, now);
      const mark = element("i", { className: dash ? "dashed" : "" }, item);
      mark.style.color = colour();
      item.append(`${label} `);
      element("em", { textContent: Number.isFinite(value) ? short(value) : "–" }, item);
      return item;
    }));
  }
}

function strokeLine(g, x0, y0, x1, y1) {
  g.beginPath();
  g.moveTo(x0, y0);
  g.lineTo(x1, y1);
  g.stroke();
}

function sample(time, values, now) {
  const dt = time.length > 1 ? time[1] - time[0] : 1, i = Math.floor((now - time[0]) / dt + 1e-3);
  return i < 0 || i >= values.length ? NaN : values[i];
}

function ticks(low, high, about) {
  const raw = (high - low) / Math.max(about, 1), power = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999) ?? power;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

function decades(low, high) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power++) found.push(10 ** power);
  return found;
}

function decimals(values) {
  const step = values.length > 1 ? values[1] - values[0] : 1;
  return Math.min(Math.max(-Math.floor(Math.log10(step) + 1e-9), 0), 6);
}

function short(value) {
  const size = Math.abs(value);
  return signed(value, size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 || size === 0 ? 2 : 4);
}
