// World metres to canvas pixels. The view looks at (x, y), `scale` pixels per metre, turned by `turn` radians.

class Camera {
  constructor(canvas) {
    Object.assign(this, { canvas, x: 0, y: 0, scale: 8, turn: 0, width: 1, height: 1, ratio: 1 });
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

  // show all points of a flat x, y list
  fit(xy) {
    const x = xy.filter((_, i) => i % 2 === 0), y = xy.filter((_, i) => i % 2 === 1);
    const [left, right, low, high] = [min(x), max(x), min(y), max(y)];
    Object.assign(this, { x: (left + right) / 2, y: (low + high) / 2, turn: 0 });
    this.scale = Math.min(this.width / (right - left + 30), this.height / (high - low + 30), 14);
  }
}

const min = (list) => list.reduce((a, b) => Math.min(a, b), Infinity);
const max = (list) => list.reduce((a, b) => Math.max(a, b), -Infinity);
