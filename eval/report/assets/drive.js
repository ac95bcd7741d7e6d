// One drive: the scene, its agents and the driven motion, with access by step.

const line = (flat, from, to) => flat.subarray(2 * from, 2 * to);

class Drive {
  static async load(row) {
    const scene = header.scenes[row.scenario];
    return new Drive(row, ...(await Promise.all([blob(scene), blob(row.agents), blob(row.blob)])));
  }

  constructor(row, scene, agents, motion) {
    Object.assign(this, { row, scene, agents, motion, pictures: motion.pictures });
    this.time = motion.time;
    this.steps = motion.time.length;
    this.dt = this.steps > 1 ? motion.time[1] - motion.time[0] : 0.1;
    this.full = "candidates" in this.pictures && this.pictures.candidates.n.length > 0;
    const p = this.pictures;
    this.learned = this.full && "perceived" in p; // its ids are perception's own, not the recording's
    this.at = { plan: starts(p.plan.points) };
    if (this.full) {
      for (const name of ["tail", "reference"]) this.at[name] = starts(p[name].points);
      for (const name of ["candidates", "modes", "active", "violations", "rejected"]) this.at[name] = starts(p[name].n);
      this.at.candidatePoints = starts(p.candidates.points);
      this.at.modePoints = starts(p.modes.points);
      if (this.learned) this.at.perceived = starts(p.perceived.n);
      this.dualRange = dualRange(p.active.dual);
    }
  }

  word(index) { return index < 0 ? "" : this.pictures.words[index]; }
  source(step) { return this.motion.words[this.motion.source[step]] ?? ""; }
  reason(step) { return this.motion.words[this.motion.reason[step]] ?? ""; }
  state(step) { return step < this.pictures.state.length ? this.word(this.pictures.state[step]) : ""; }
  explanation(step) { return step < this.pictures.explanation.length ? this.word(this.pictures.explanation[step]) : ""; }

  clamp(step) { return Math.min(Math.max(step, 0), this.steps - 1); }
  step(seconds) { return this.clamp(Math.floor((seconds - this.time[0]) / this.dt + 1e-3)); }

  // pose between the steps, so that motion looks smooth
  ego(seconds) { return poseAt(this.motion, this.time, seconds); }
  expert(seconds) { return this.scene.expert ? poseAt(this.scene.expert, this.scene.expert.time, seconds) : null; }

  present(step) {
    const { valid, id } = this.agents;
    const found = [];
    for (let i = 0; i < id.length; i++) if (valid[step * id.length + i] > 0.5) found.push(i);
    return found;
  }

  agent(i, seconds) {
    const { id, xy, yaw, size, speed, valid } = this.agents;
    const n = id.length, step = this.step(seconds), next = this.clamp(step + 1);
    const f = valid[next * n + i] > 0.5 ? Math.min(Math.max((seconds - this.time[step]) / this.dt, 0), 1) : 0;
    const mix = (flat, k, width) => flat[step * n * width + k] * (1 - f) + flat[next * n * width + k] * f;
    return {
      x: mix(xy, 2 * i, 2), y: mix(xy, 2 * i + 1, 2), yaw: mix(yaw, i, 1), speed: mix(speed, i, 1),
      length: size[2 * i], width: size[2 * i + 1], kind: this.agents.class[i], id: String(id[i]),
    };
  }

  // the object that perception calls so
  agentById(id, seconds) {
    if (this.learned) return this.perceived(this.step(seconds)).find((box) => box.id === id) ?? null;
    const i = this.agents.id.findIndex((other) => String(other) === id);
    return i >= 0 && this.agents.valid[this.step(seconds) * this.agents.id.length + i] > 0.5 ? this.agent(i, seconds) : null;
  }

  plan(step) { return this.polyline("plan", step); }
  tail(step) { return this.full ? this.polyline("tail", step) : null; }
  polyline(name, step) {
    const at = this.at[name];
    return step + 1 < at.length && at[step + 1] > at[step] ? line(this.pictures[name].xy, at[step], at[step + 1]) : null;
  }

  // the newest reference path at or before the step
  reference(step) {
    for (let i = step; this.full && i >= 0; i--) {
      const found = this.polyline("reference", i);
      if (found) return found;
    }
    return null;
  }

  *range(name, step) {
    if (!this.full || step + 1 >= this.at[name].length) return;
    for (let i = this.at[name][step]; i < this.at[name][step + 1]; i++) yield i;
  }

  candidates(step) {
    const c = this.pictures.candidates, at = this.at.candidatePoints;
    return [...this.range("candidates", step)].map((i) => ({
      decision: this.word(c.decision[i]), kind: this.word(c.kind[i]), status: this.word(c.status[i]), cost: c.cost[i],
      xy: line(c.xy, at[i], at[i + 1]),
    }));
  }

  modes(step) {
    const m = this.pictures.modes, at = this.at.modePoints;
    return [...this.range("modes", step)].map((i) => ({
      id: this.word(m.id[i]), p: m.p[i], xy: line(m.xy, at[i], at[i + 1]), sigma: m.sigma.subarray(at[i], at[i + 1]),
    }));
  }

  perceived(step) {
    if (!this.learned) return [];
    const b = this.pictures.perceived;
    return [...this.range("perceived", step)].map((i) => ({
      id: this.word(b.id[i]), kind: b.class[i], x: b.xy[2 * i], y: b.xy[2 * i + 1], yaw: b.yaw[i], length: b.size[2 * i], width: b.size[2 * i + 1], p: b.p[i],
    }));
  }

  findings(name, step) {
    const f = this.pictures[name];
    return [...this.range(name, step)].map((i) => ({
      rule: this.word(f.rule[i]), id: this.word(f.id[i]), decision: this.word(f.decision[i]), time: f.time[i], margin: f.margin[i],
      dual: f.dual?.[i], xy: f.xy && Number.isFinite(f.xy[2 * i]) ? [f.xy[2 * i], f.xy[2 * i + 1]] : null,
    }));
  }

  active(step) { return this.findings("active", step).sort((a, b) => b.dual - a.dual); }

  // null where the step has no verdict (baselines)
  verdict(step) {
    const accepted = this.full && step < this.pictures.accepted.length ? this.pictures.accepted[step] : -1;
    if (accepted < 0) return null;
    return { accepted: accepted > 0.5, margin: this.pictures.worst_margin[step], violations: this.findings("violations", step) };
  }

  // per rule: price over time, the costliest rules first
  prices(rules) {
    const total = new Map();
    for (let step = 0; this.full && step < this.at.active.length - 1; step++) {
      for (const row of this.findings("active", step)) {
        if (!(row.dual > 0)) continue;
        if (!total.has(row.rule)) total.set(row.rule, new Float32Array(this.steps).fill(NaN)); // NaN: not active
        const values = total.get(row.rule);
        values[step] = (Number.isFinite(values[step]) ? values[step] : 0) + row.dual;
      }
    }
    const sum = (values) => values.reduce((a, b) => a + (b > 0 ? b : 0), 0);
    return [...total].sort((a, b) => sum(b[1]) - sum(a[1])).slice(0, rules);
  }

  dualFraction(dual) {
    const [low, high] = this.dualRange;
    return (Math.log(Math.max(dual, low)) - Math.log(low)) / (Math.log(high) - Math.log(low));
  }
}

function poseAt(track, time, seconds) {
  const dt = time.length > 1 ? time[1] - time[0] : 1;
  const at = Math.min(Math.max((seconds - time[0]) / dt, 0), time.length - 1);
  const low = Math.min(Math.floor(at), Math.max(time.length - 2, 0)), high = Math.min(low + 1, time.length - 1), f = at - low;
  const mix = (flat, width, k) => flat[low * width + k] * (1 - f) + flat[high * width + k] * f;
  return { x: mix(track.xy, 2, 0), y: mix(track.xy, 2, 1), yaw: mix(track.yaw, 1, 0) };
}

// ends of the logarithmic colour scale: two and a half decades below the 99th percentile
function dualRange(duals) {
  const sorted = duals.filter((dual) => dual > 0).sort();
  const high = sorted.length ? sorted[Math.floor(0.99 * (sorted.length - 1))] : 1;
  return [high / 300, high];
}
