// W instances side by side: the data of a tree of stages, packed from the caller's tensors.
#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.hpp"
#include "lanes.hpp"

namespace {

constexpr double kEqualBounds = 1e-12;  // sides closer than this are an equation
constexpr double kAbsent = 1e30;        // bound of a side that another lane has and this one lacks

// Of a side: +1 for an upper one, -1 for a lower one, known to the compiler.
template <int Sign>
struct Direction {
  constexpr operator int() const { return Sign; }
  template <class V>
  friend DD_INLINE V operator*(Direction, const V& v) {
    return Sign > 0 ? v : -v;
  }
};

template <int W, int NX, int NU>
class StageData {
 public:
  using T = typename Lanes<W>::T;
  using S = typename Lanes<W>::S;
  static constexpr int K = Lanes<W>::K;
  // Where the lanes are free, a row of a stage's matrices fills a register: Row-wise arithmetic on padded rows.
  static constexpr bool kRows = W == 1 && NX > 0;
  static constexpr int kPadded = NX + NU <= 4 ? 4 : 8;
  using R = typename VectorOf<kPadded>::type;

  explicit StageData(const Job& job) : job_(job) {
    const dd_problem& p = *job.problem;
    n_ = int(p.stages), nx_ = int(p.states), nu_ = int(p.inputs), m_ = int(p.rows);
    nz_ = nx_ + nu_, limits_ = nz_ + m_;
    buffer_ = static_cast<char*>(aligned_alloc(64, (footprint() + 63) / 64 * 64));
  }
  ~StageData() { free(buffer_); }
  StageData(const StageData&) = delete;
  StageData& operator=(const StageData&) = delete;
  bool ready() const { return buffer_ != nullptr; }

 protected:
  // One side of K limits that lie next to each other in a stage's val: v <= bound, or v >= -bound.
  struct Side {
    S bound;  // sign x limit; kAbsent where the lane has none
    S s, l;   // slack and multiplier
    S one;    // 1 / (s l (s + r l)): both divisions of an iteration in one
    S x;      // scratch of a pass
  };
  // Registers of limits with both sides come first, then those with an upper one only, then a lower one only.
  struct Sides {
    int both, upper, lower, n;  // registers of limits; n sides in all
    bool soft;                  // any compliance
    int32_t* limit;             // of each register: where in the stage's val it begins
    Side* side;                 // of a register with both, the upper one first
    S* comply;                  // of each side
  };
  struct Equations {
    int n;
    int32_t* limit;
    T *on, *b, *comply, *w, *y, *dy;
  };
  struct Row {
    int id, entries;  // the row's number in the problem; its entries that any lane has
    int32_t* column;
    T* value;  // of those entries; of all, padded, where rows fill registers
  };
  struct Stage {
    int parent;
    bool leaf, adds;  // adds: a later sibling has written the parent's cost-to-go already
    bool diagonal;    // of H
    int rows;
    Row* row;
    T *F, *c, *H, *g;  // F = [A B], nx x nz; H full, or its diagonal
    T *val, *dval;     // what the limits bound: z, then C z of the rows kept; and its step
    T *hz;             // H z + g
    T *gain, *ldl, *k, *p, *costate;
    T* P;  // cost-to-go of the children; while the stage is eliminated, its whole Hessian in z
    Sides sides;
    Equations equal;
  };
  // Where F is nonzero in any lane and stage: the rows of each column, the columns of each row.
  struct Pattern {
    int32_t *rows, *row;                 // [nz], [nz, nx]
    int32_t *columns, *column, *states;  // [nx], [nx, nz]; how many of a row's columns are states, these come first
  };

  const Job& job_;
  int n_, nx_, nu_, nz_, m_, limits_;
  char *buffer_ = nullptr, *top_ = nullptr;
  Stage* stage_ = nullptr;
  Pattern pattern_{};
  int64_t member_[W];
  T count_{};  // sides
  bool crossed_[W];
  T* slot_[4];  // limits of a stage while it is loaded
  T *flat_, *scratch_q_, *scratch_y_, *scratch_g_, *scratch_w_, *scratch_l_;

  int nx() const { return NX ? NX : nx_; }
  int nu() const { return NX ? NU : nu_; }
  int nz() const { return NX ? NX + NU : nz_; }
  // Numbers from one row to the next: of F, H and Hessians; of gains and costs-to-go.
  int row_z() const { return kRows ? kPadded : nz(); }
  int row_x() const { return kRows ? kPadded : nx(); }
  // Local vectors and matrices; where sizes are known at run time only, the scratch is used instead.
  static constexpr int kVector = kRows ? kPadded : NX ? NX + NU : 1;
  static constexpr int kMatrix = NX ? (NX + NU) * kVector : 1;

  static double& at(T& v, int w) { return reinterpret_cast<double*>(&v)[w]; }
  static double at(const T& v, int w) { return reinterpret_cast<const double*>(&v)[w]; }
  static T broadcast(double v) { return T{} + v; }
  static DD_INLINE const T& entry(const Row& row, int e) { return row.value[kRows ? row.column[e] : e]; }
  // Number of a limit in the problem, where rows that bound nothing count too.
  int id(const Stage& st, int limit) const { return limit < nz() ? limit : nz() + st.row[limit - nz()].id; }

  // ---- memory ------------------------------------------------------------------------------------------------------
  size_t footprint() const {
    const size_t nx = nx_, nz = nz_, nu = nu_, L = limits_, side = 2 * ((L + K - 1) / K * K);
    const size_t numbers = nx * nz + nx + nz * nz + nz + 2 * L + nz + nu * nx + nu * nu + nu + nx * nx + nz * nz + 2 * nx +
                           m_ * nz + 6 * side + 6 * L + 2 * K + 2 * nz + 5 * (side + L) +
                           (kRows ? 8 * (3 * nx + 2 * nz + nu + m_ + 4) : 0);
    const size_t integers = 2 * (side + L) + m_ * nz;
    const size_t scratch = 3 * nz * nz + nx * nz + m_ * nz + 9 * L + 64;
    const size_t per_stage = numbers * sizeof(T) + integers * 4 + sizeof(Stage) + m_ * sizeof(Row) + 64 * (60 + 2 * m_);
    return n_ * per_stage + scratch * sizeof(T) + 12 * (nz + 1) * (nx + 1) + 24 * n_ + 8192;
  }
  template <class V>
  V* take(size_t n) {
    top_ += (64 - reinterpret_cast<uintptr_t>(top_) % 64) % 64;
    V* result = reinterpret_cast<V*>(top_);
    top_ += n * sizeof(V);
    return result;
  }

  // One datum of all lanes.
  struct Source {
    const double* lane[W];
    T operator()(int64_t i) const {
      if constexpr (W == 1) {
        return lane[0][i];
      } else {
        T r;
        for (int w = 0; w < W; ++w) r[w] = lane[w][i];
        return r;
      }
    }
    // The entries [i * n, i * n + n) of every lane.
    void part(T* out, int64_t i, int n) const { interleave(out, lane, i * n, n); }
  };
  Source source(const dd_tensor& t) const {
    Source s;
    for (int w = 0; w < W; ++w) s.lane[w] = t.data + member_[w] * t.stride;
    return s;
  }

  // ---- loading, one tensor at a time so that memory is read in order ------------------------------------------------
  void load(int64_t first, int count) {
    const int nx = this->nx(), nz = this->nz();
    for (int w = 0; w < W; ++w) member_[w] = first + (w < count ? w : count - 1), crossed_[w] = false;
    top_ = buffer_;
    stage_ = take<Stage>(n_);
    flat_ = take<T>(nz * nz + m_ * nz + limits_);
    scratch_q_ = take<T>(nz * nz), scratch_g_ = take<T>(nz * nz), scratch_y_ = take<T>(nx * nz);
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
      const int limits = (nz + st.rows + K - 1) / K * K;
      st.val = take<T>(limits), st.dval = take<T>(limits), st.hz = take<T>(row_z());
      st.gain = take<T>(nu * row_x()), st.ldl = take<T>(nu * nu), st.k = take<T>(nu);
      st.p = take<T>(row_x()), st.costate = take<T>(nx);
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
        if (parent.leaf) parent.P = spares > 0 ? spare[--spares] : take<T>(kRows ? nx * row_x() : nz() * nz());
        parent.leaf = false;
      }
      if (!st.leaf) spare[spares++] = st.P;
    }
  }

  void load_dynamics() {
    const dd_problem& p = *job_.problem;
    const int nx = this->nx(), nu = this->nu(), nz = this->nz(), row = row_z();
    const Source A = source(p.A), B = source(p.B), c = source(p.c);
    T* used = scratch_q_;
    for (int i = 0; i < nx * nz; ++i) used[i] = T{};
    for (int t = 0; t < n_; ++t) {
      T* F = stage_[t].F = take<T>(nx * row);
      if constexpr (kRows) memset(F, 0, sizeof(T) * nx * row);
      A.part(flat_, t, nx * nx);
      for (int i = 0; i < nx; ++i)
        for (int j = 0; j < nx; ++j) {
          F[i * row + j] = flat_[i * nx + j];
          used[i * nz + j] = larger(used[i * nz + j], magnitude(flat_[i * nx + j]));
        }
    }
    for (int t = 0; t < n_; ++t) {
      T* F = stage_[t].F + nx;
      B.part(flat_, t, nx * nu);
      for (int i = 0; i < nx; ++i)
        for (int j = 0; j < nu; ++j) {
          F[i * row + j] = flat_[i * nu + j];
          used[i * nz + nx + j] = larger(used[i * nz + nx + j], magnitude(flat_[i * nu + j]));
        }
    }
    for (int t = 0; t < n_; ++t) c.part(stage_[t].c = take<T>(nx), t, nx);
    pattern_.rows = take<int32_t>(nz), pattern_.row = take<int32_t>(nz * nx);
    pattern_.columns = take<int32_t>(nx), pattern_.column = take<int32_t>(nz * nx), pattern_.states = take<int32_t>(nx);
    memset(pattern_.rows, 0, sizeof(int32_t) * nz), memset(pattern_.columns, 0, sizeof(int32_t) * nx);
    memset(pattern_.states, 0, sizeof(int32_t) * nx);
    for (int i = 0; i < nx; ++i)
      for (int j = 0; j < nz; ++j)
        if (any(!(used[i * nz + j] == T{}))) {
          pattern_.row[j * nx + pattern_.rows[j]++] = i;
          pattern_.column[i * nz + pattern_.columns[i]++] = j;
          if (j < nx) ++pattern_.states[i];
        }
  }

  void load_cost() {
    const int nz = this->nz();
    const Source H = source(job_.problem->H), g = source(job_.problem->g);
    const bool shared = job_.problem->H.stride == 0;
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      if (shared)
        for (int i = 0; i < nz * nz; ++i) flat_[i] = broadcast(H.lane[0][int64_t(t) * nz * nz + i]);
      else
        H.part(flat_, t, nz * nz);
      T off{};
      for (int i = 0; i < nz; ++i)
        for (int j = 0; j < i; ++j) off += magnitude(flat_[i * nz + j]);
      st.diagonal = !any(!(off == T{}));
      st.H = take<T>(st.diagonal ? nz : nz * row_z());
      if (st.diagonal)
        for (int i = 0; i < nz; ++i) st.H[i] = flat_[i * nz + i];
      else
        for (int i = 0; i < nz; ++i) memcpy(st.H + i * row_z(), flat_ + i * nz, sizeof(T) * nz);
    }
    for (int t = 0; t < n_; ++t) g.part(stage_[t].g = take<T>(nz), t, nz);
  }

  // The limits that exist in any lane. Rows are numbered as they are kept.
  void load_limits(int t) {
    const dd_problem& p = *job_.problem;
    const int nz = this->nz();
    Stage& st = stage_[t];
    T *lower = flat_, *upper = lower + limits_, *comply = upper + limits_;
    source(p.z_lower).part(lower, t, nz), source(p.z_upper).part(upper, t, nz);
    source(p.lower).part(lower + nz, t, m_), source(p.upper).part(upper + nz, t, m_);
    if (p.bound_compliance.data)
      source(p.bound_compliance).part(comply, t, nz);
    else
      for (int i = 0; i < nz; ++i) comply[i] = T{};
    source(p.compliance).part(comply + nz, t, m_);

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

  void load_rows() {
    const int nz = this->nz();
    const Source C = source(job_.problem->C);
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      if (st.rows == 0) continue;
      C.part(flat_, t, m_ * nz);
      for (int r = 0; r < st.rows; ++r) {
        Row& row = st.row[r];
        const T* values = flat_ + row.id * nz;
        row.column = take<int32_t>(nz), row.value = top<T>();
        row.entries = 0;
        for (int j = 0; j < nz; ++j)
          if (any(!(values[j] == T{}))) {
            if constexpr (!kRows) row.value[row.entries] = values[j];
            row.column[row.entries++] = j;
          }
        take<T>(kRows ? kPadded : row.entries);
        if constexpr (kRows)
          for (int j = 0; j < kPadded; ++j) row.value[j] = j < nz ? values[j] : 0;
      }
    }
  }
  template <class V>
  V* top() {
    return take<V>(0);
  }

  // ---- registers of limits -----------------------------------------------------------------------------------------
  static DD_INLINE S& part(T* values, int limit) { return *reinterpret_cast<S*>(values + limit); }
  static DD_INLINE const S& part(const T* values, int limit) { return *reinterpret_cast<const S*>(values + limit); }

  // limit(where in val, visit): visit(each) calls each(side, comply, direction) for the sides of that register.
  template <class Limit>
  static DD_INLINE void each_limit(const Sides& sd, Limit&& limit) {
    Side* side = sd.side;
    const S* comply = sd.comply;
    const int32_t* where = sd.limit;
    for (int k = 0; k < sd.both; ++k, side += 2, comply += 2)
      limit(*where++, [=](auto&& each) DD_ALWAYS {
        each(side[0], comply[0], Direction<1>{}), each(side[1], comply[1], Direction<-1>{});
      });
    for (int k = 0; k < sd.upper; ++k, ++side, ++comply)
      limit(*where++, [=](auto&& each) DD_ALWAYS { each(*side, *comply, Direction<1>{}); });
    for (int k = 0; k < sd.lower; ++k, ++side, ++comply)
      limit(*where++, [=](auto&& each) DD_ALWAYS { each(*side, *comply, Direction<-1>{}); });
  }
  // each(limit, side, entry, comply, direction) for every single side: `entry` is its place in the register.
  template <class Each>
  static void each_entry(const Sides& sd, Each&& each) {
    each_limit(sd, [&](int limit, auto&& visit) {
      visit([&](Side& side, const S& comply, auto direction) {
        for (int j = 0; j < K; ++j) each(limit + j, side, j, reinterpret_cast<const T*>(&comply)[j], direction);
      });
    });
  }
  static DD_INLINE T& entry(S& v, int j) { return reinterpret_cast<T*>(&v)[j]; }

  static T sum(const S& x) {
    if constexpr (K == 1) {
      return x;
    } else {
      T r = 0;
      for (int j = 0; j < K; ++j) r += x[j];
      return r;
    }
  }
  static T most(const S& x) {
    if constexpr (K == 1) {
      return x;
    } else {
      T r = x[0];
      for (int j = 1; j < K; ++j) r = larger(r, T(x[j]));
      return r;
    }
  }
};

}  // namespace
