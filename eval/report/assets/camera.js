// World metres to canvas pixels. The view looks at (x, y), `scale` pixels per metre, turned by `turn` radians.

class Camera {
  constructor(canvas) {
    Object.assign(this, { canvas, x: 0, y: 0, scale: 8, turn: 0, upright: 0, width: 1, height: 1, ratio: 1 });
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    this.ratio = window.devicePixelRatio || 1;
    this.width = Math.max(box.width, 1);
    this.height = Math.max(box.height, 1);
    const [w, h] = [Math.round(this.width * this.ratio), Math.round(this.height * this.ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
  }

  // context in world coordinates, y to the left of x as seen from above
  world(context) {
    const s = this.scale * this.ratio, c = Math.cos(this.turn) * s, n = Math.sin(this.turn) * s;
    const [px, py] = [c * this.x - n * this.y, -n * this.x - c * this.y];
    context.setTransform(c, -n, -n, -c, this.width * this.ratio / 2 - px, this.height * this.ratio / 2 - py);
  }

  screen(context) {
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
  }

  toScreen(x, y) {
    const [dx, dy] = [x - this.x, y - this.y], c = Math.cos(this.turn), n = Math.sin(this.turn);
    return [this.width / 2 + this.scale * (c * dx - n * dy), this.height / 2 - this.scale * (n * dx + c * dy)];
  }

  toWorld(px, py) {
    const u = (px - this.width / 2) / this.scale, v = (this.height / 2 - py) / this.scale;
    const c = Math.cos(this.turn), n = Math.sin(this.turn);
    return [this.x + c * u + n * v, this.y - n * u + c * v];
  }

  // could something of this size (m) around the point be in the window?
  sees(x, y, size) {
    return Math.hypot(x - this.x, y - this.y) < Math.hypot(this.width, this.height) / 2 / this.scale + size;
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const before = this.toWorld(px, py);
    this.scale = Math.min(Math.max(this.scale * factor, 0.4), 120);
    const after = this.toWorld(px, py);
    this.x += before[0] - after[0];
    this.y += before[1] - after[1];
  }

  pan(dx, dy) {
    const [x, y] = this.toWorld(this.width / 2 - dx, this.height / 2 - dy);
    Object.assign(this, { x, y });
  }

  // turn so that a drive runs along the longer side of the window, and show all of it; xy is a flat x, y list
  fit(xy) {
    const [x, y] = [0, 1].map((k) => xy.filter((_, i) => i % 2 === k)), end = x.length - 1;
    this.turn = this.upright = (this.width < this.height ? Math.PI / 2 : 0) - Math.atan2(y[end] - y[0], x[end] - x[0]);
    const c = Math.cos(this.turn), n = Math.sin(this.turn);
    const u = x.map((_, i) => c * x[i] - n * y[i]), v = x.map((_, i) => n * x[i] + c * y[i]);
    const [left, right, low, high] = [min(u), max(u), min(v), max(v)], [mu, mv] = [(left + right) / 2, (low + high) / 2];
    Object.assign(this, { x: c * mu + n * mv, y: -n * mu + c * mv });
    this.scale = Math.min(this.width / (right - left + 30), this.height / (high - low + 30), 14);
  }
}

const min = (list) => list.reduce((a, b) => Math.min(a, b), Infinity);
const max = (list) => list.reduce((a, b) => Math.max(a, b), -Infinity);
