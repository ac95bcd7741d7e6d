// The data of a block of members, packed from the caller's tensors: a stage's numbers in the order in which passes read them.
#pragma once

#include "stage_data.hpp"

namespace {

constexpr double kEqualBounds = 1e-12;  // sides closer than this are an equation

template <int W, int NX, int NU>
class LoadedStages : public StageData<W, NX, NU> {
 protected:
  using Base = StageData<W, NX, NU>;
  using typename Base::Equations;
  using typename Base::Row;
  using typename Base::S;
  using typename Base::Side;
  using typename Base::Sides;
  using typename Base::Source;
  using typename Base::Stage;
  using typename Base::T;
  using Base::K;
  using Base::at;
  using Base::broadcast;
  using Base::buffer_;
  using Base::count_;
  using Base::crossed_;
  using Base::flat_;
  using Base::job_;
  using Base::kPadded;
  using Base::kRows;
  using Base::limits_;
  using Base::m_;
  using Base::member_;
  using Base::n_;
  using Base::pattern_;
  using Base::scratch_g_;
  using Base::scratch_l_;
  using Base::scratch_q_;
  using Base::scratch_w_;
  using Base::scratch_y_;
  using Base::slot_;
  using Base::stage_;
  using Base::top_;

 public:
  using Base::Base;

 protected:
  template <class V>
  V* take(size_t n) {
    top_ += (64 - reinterpret_cast<uintptr_t>(top_) % 64) % 64;
    V* result = reinterpret_cast<V*>(top_);
    top_ += n * sizeof(V);
    return result;
  }


  // One tensor at a time, so that memory is read in order.
  void load(int64_t first, int count) {
    const int nx = this->nx(), nz = this->nz();
    for (int w = 0; w < W; ++w) member_[w] = first + (w < count ? w : count - 1), crossed_[w] = false;
    top_ = buffer_;
    stage_ = take<Stage>(n_);
    flat_ = take<T>(nz * nz + m_ * nz + limits_);
    scratch_q_ = take<T>(nz * this->row_z()), scratch_g_ = take<T>(nz * nz), scratch_y_ = take<T>(nx * nz);
    scratch_w_ = take<T>(limits_ + 8), scratch_l_ = take<T>(limits_ + 8);
    for (T*& slot : slot_) slot = take<T>(limits_ + 8);
    count_ = T{};
    plant();
    load_dynamics();
    load_cost();
    for (int t = 0; t < n_; ++t) load_limits(t);
    load_rows();
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      const int nu = this->nu();
      const int limits = larger((nz + st.rows + K - 1) / K * K, kRows ? nz + padded(st.rows) : 0);
      st.val = take<T>(limits), st.dval = take<T>(limits), st.hz = take<T>(this->row_z());
      st.gain = take<T>(nu * this->row_x()), st.ldl = take<T>(nu * nu), st.k = take<T>(this->row_z());
      if constexpr (kRows) {
        st.inverse = take<T>(nu * kPadded), st.turned = take<T>(nx * kPadded), st.entry = take<T>(nu * kPadded);
        for (int a = 0; a < nu; ++a)
          for (int i = 0; i < kPadded; ++i) st.entry[a * kPadded + i] = i < nx ? st.F[i * kPadded + nx + a] : 0;
      }
      st.p = take<T>(this->row_x()), st.costate = take<T>(nx);
      for (int i = 0; i < limits; ++i) st.val[i] = st.dval[i] = T{};
    }
  }

  // The tree, and where each stage's cost-to-go lives: stages that are never alive together share memory.
  void plant() {
    const int nx = this->nx();
    T** spare = take<T*>(n_ + 1);
    int spares = 0;
    for (int t = 0; t < n_; ++t) stage_[t].leaf = true, stage_[t].adds = false, stage_[t].P = nullptr;
    for (int t = n_ - 1; t >= 0; --t) {
      Stage& st = stage_[t];
      st.parent = int(job_.problem->parent[t]);
      if (st.parent >= 0) {
        Stage& parent = stage_[st.parent];
        st.adds = !parent.leaf;
        if (parent.leaf) parent.P = spares > 0 ? spare[--spares] : take<T>(kRows ? nx * this->row_x() : this->nz() * this->nz());
        parent.leaf = false;
      }
      if (!st.leaf) spare[spares++] = st.P;
    }
  }

  void load_dynamics() {
    const dd_problem& p = *job_.problem;
    const int nx = this->nx(), nu = this->nu(), nz = this->nz(), row = this->row_z();
    const Source A = this->source(p.A), B = this->source(p.B), c = this->source(p.c);
    for (int t = 0; t < n_; ++t) {
      T* F = stage_[t].F = take<T>(nx * row);
      if constexpr (kRows) memset(F, 0, sizeof(T) * nx * row);
      A.part(flat_, t, nx * nx);
      for (int i = 0; i < nx; ++i)
        for (int j = 0; j < nx; ++j) F[i * row + j] = flat_[i * nx + j];
    }
    for (int t = 0; t < n_; ++t) {
      T* F = stage_[t].F + nx;
      B.part(flat_, t, nx * nu);
      for (int i = 0; i < nx; ++i)
        for (int j = 0; j < nu; ++j) F[i * row + j] = flat_[i * nu + j];
    }
    for (int t = 0; t < n_; ++t) c.part(stage_[t].c = take<T>(nx), t, nx);
    pattern_.rows = take<int32_t>(nz), pattern_.row = take<int32_t>(nz * nx);
    pattern_.columns = take<int32_t>(nx), pattern_.column = take<int32_t>(nz * nx), pattern_.states = take<int32_t>(nx);
    memset(pattern_.rows, 0, sizeof(int32_t) * nz), memset(pattern_.columns, 0, sizeof(int32_t) * nx);
    memset(pattern_.states, 0, sizeof(int32_t) * nx);
    T* size = scratch_q_;
    for (int i = 0; i < nx * row; ++i) size[i] = T{};
    for (int t = 0; t < n_; ++t) {
      const T* F = stage_[t].F;
      for (int i = 0; i < nx * row; ++i) size[i] += magnitude(F[i]);
    }
    for (int i = 0; i < nx; ++i)
      for (int j = 0; j < nz; ++j)
        if (any(!(size[i * row + j] == T{}))) {
          pattern_.row[j * nx + pattern_.rows[j]++] = i;
          pattern_.column[i * nz + pattern_.columns[i]++] = j;
          if (j < nx) ++pattern_.states[i];
        }
  }

  void load_cost() {
    const int nz = this->nz();
    const Source H = this->source(job_.problem->H), g = this->source(job_.problem->g);
    const bool shared = job_.problem->H.stride == 0;
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      const double* common = H.lane[0] + int64_t(t) * nz * nz;
      if (!shared) H.part(flat_, t, nz * nz);
      st.diagonal = true;
      for (int i = 0; i < nz; ++i)
        for (int j = 0; j < i; ++j)
          st.diagonal &= shared ? common[i * nz + j] == 0 : !any(!(flat_[i * nz + j] == T{}));
      st.H = take<T>(st.diagonal ? nz : nz * this->row_z());
      if (shared)
        for (int i = 0; i < nz * nz; i += st.diagonal ? nz + 1 : 1) flat_[i] = broadcast(common[i]);
      if (st.diagonal)
        for (int i = 0; i < nz; ++i) st.H[i] = flat_[i * nz + i];
      else
        for (int i = 0; i < nz; ++i) memcpy(st.H + i * this->row_z(), flat_ + i * nz, sizeof(T) * nz);
    }
    for (int t = 0; t < n_; ++t) g.part(stage_[t].g = take<T>(nz), t, nz);
  }

  // The limits that exist in any lane. Rows are numbered as they are kept.
  void load_limits(int t) {
    const dd_problem& p = *job_.problem;
    const int nz = this->nz();
    Stage& st = stage_[t];
    T *lower = flat_, *upper = lower + limits_, *comply = upper + limits_;
    this->source(p.z_lower).part(lower, t, nz), this->source(p.z_upper).part(upper, t, nz);
    this->source(p.lower).part(lower + nz, t, m_), this->source(p.upper).part(upper + nz, t, m_);
    if (p.bound_compliance.data)
      this->source(p.bound_compliance).part(comply, t, nz);
    else
      for (int i = 0; i < nz; ++i) comply[i] = T{};
    this->source(p.compliance).part(comply + nz, t, m_);

    Equations& eq = st.equal;
    eq.limit = take<int32_t>(limits_), eq.on = take<T>(limits_), eq.b = take<T>(limits_), eq.comply = take<T>(limits_);
    st.row = take<Row>(m_);
    st.rows = 0, eq.n = 0;
    const T absent = broadcast(kAbsent), one = broadcast(1);
    T *above = slot_[0], *below = slot_[1], *soft = slot_[2], *span = slot_[3];
    for (int i = 0; i < limits_; ++i) {
      const T l = lower[i], u = upper[i], gap = u - l;
      const auto equal = magnitude(gap) <= kEqualBounds;
      const T b_u = equal ? absent : u < INFINITY ? u : absent, b_l = equal ? absent : l > -INFINITY ? -l : absent;
      const auto has_upper = b_u < kAbsent, has_lower = b_l < kAbsent;
      const bool has_equal = any(equal);
      if (i >= nz && !any(has_upper) && !any(has_lower) && !has_equal) continue;
      if (any(gap < 0))
        for (int w = 0; w < W; ++w)
          crossed_[w] |= at(gap, w) < -kEqualBounds && at(comply[i], w) == 0;
      int limit = i;
      if (i >= nz) limit = nz + st.rows, st.row[st.rows++].id = i - nz;
      above[limit] = b_u, below[limit] = b_l, soft[limit] = comply[i];
      span[limit] = gap > 0 ? gap : broadcast(INFINITY);
      count_ += (has_upper ? one : T{}) + (has_lower ? one : T{});
      if (has_equal) {
        eq.limit[eq.n] = limit, eq.on[eq.n] = equal ? one : T{}, eq.b[eq.n] = equal ? 0.5 * (l + u) : T{};
        eq.comply[eq.n] = equal ? comply[i] : T{};
        ++eq.n;
      }
    }
    eq.w = take<T>(eq.n), eq.y = take<T>(eq.n), eq.dy = take<T>(eq.n);
    for (int i = 0; i < eq.n; ++i) eq.y[i] = eq.dy[i] = T{};
    const int registers = (nz + st.rows + K - 1) / K;
    for (int i = nz + st.rows; i < registers * K; ++i) above[i] = below[i] = absent, soft[i] = T{}, span[i] = one;
    gather_sides(st.sides, registers);
  }

  // The sides of `registers` registers of limits, from the slots. A side's slack holds the limit's width at first.
  void gather_sides(Sides& sd, int registers) {
    const S *above = reinterpret_cast<S*>(slot_[0]), *below = reinterpret_cast<S*>(slot_[1]);
    const S *soft = reinterpret_cast<S*>(slot_[2]), *span = reinterpret_cast<S*>(slot_[3]);
    sd.limit = take<int32_t>(registers), sd.side = take<Side>(2 * registers), sd.comply = take<S>(2 * registers);
    sd.n = 0, sd.soft = false;
    int taken = 0;
    const auto add = [&](const S& bound, int r) {
      Side& side = sd.side[sd.n];
      side.bound = bound, side.s = span[r], side.x = S{};
      const S comply = sd.comply[sd.n++] = bound < kAbsent ? soft[r] : S{};
      sd.soft |= any(comply > 0);
    };
    const auto pass = [&](bool upper, bool lower) {
      const int before = taken;
      for (int r = 0; r < registers; ++r) {
        if (any(above[r] < kAbsent) != upper || any(below[r] < kAbsent) != lower) continue;
        if (upper) add(above[r], r);
        if (lower) add(below[r], r);
        sd.limit[taken++] = r * K;
      }
      return taken - before;
    };
    sd.both = pass(true, true), sd.upper = pass(true, false), sd.lower = pass(false, true);
  }

  static int padded(int n) { return (n + kPadded - 1) / kPadded * kPadded; }

  void load_rows() {
    const int nz = this->nz();
    const Source C = this->source(job_.problem->C);
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      st.cross = !st.diagonal, st.touched = 0;
      if (st.rows == 0) continue;
      C.part(flat_, t, m_ * nz);
      for (int r = 0; r < st.rows; ++r) {
        Row& row = st.row[r];
        const T* values = flat_ + row.id * nz;
        row.column = take<int32_t>(nz), row.value = take<T>(0);
        row.entries = 0;
        for (int j = 0; j < nz; ++j)
          if (any(!(values[j] == T{}))) {
            if constexpr (!kRows) row.value[row.entries] = values[j];
            row.column[row.entries++] = j;
            st.cross |= j >= this->nx();
          }
        take<T>(kRows ? kPadded : row.entries);
        if constexpr (kRows)
          for (int j = 0; j < kPadded; ++j) row.value[j] = j < nz ? values[j] : 0;
      }
      if constexpr (kRows) load_columns(st);
    }
  }
  void load_columns(Stage& st) {
    const int nz = this->nz(), rows = padded(st.rows);
    st.touch = take<int32_t>(nz), st.across = take<T>(nz * rows);
    for (int i = 0; i < nz; ++i) {
      bool any = false;
      for (int r = 0; r < st.rows; ++r) any |= st.row[r].value[i] != 0;
      if (!any) continue;
      T* column = st.across + st.touched * rows;
      for (int r = 0; r < rows; ++r) column[r] = r < st.rows ? st.row[r].value[i] : 0;
      st.touch[st.touched++] = i;
    }
  }
};

}  // namespace
