// W instances side by side over a tree of stages: their data, and one Newton system by a Riccati recursion.
#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel.hpp"
#include "lanes.hpp"

namespace {

inline double clock_now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

constexpr double kEqualBounds = 1e-12;   // sides closer than this are an equation
constexpr double kPivot = 1e-13;         // smallest pivot of the input block, relative to its diagonal

template <int W, int NX, int NU>
class StageBlock {
 public:
  using T = typename Lanes<W>::T;
  using S = typename Lanes<W>::S;
  static constexpr int K = Lanes<W>::K;

  explicit StageBlock(const Job& job) : job_(job) {
    const dd_problem& p = *job.problem;
    n_ = int(p.stages), nx_ = int(p.states), nu_ = int(p.inputs), m_ = int(p.rows);
    nz_ = nx_ + nu_, limits_ = nz_ + m_;
    buffer_ = static_cast<char*>(aligned_alloc(64, (footprint() + 63) / 64 * 64));
  }
  ~StageBlock() { free(buffer_); }
  StageBlock(const StageBlock&) = delete;
  StageBlock& operator=(const StageBlock&) = delete;
  bool ready() const { return buffer_ != nullptr; }

 protected:
  struct Sides {
    int n;      // registers: K sides each
    bool soft;  // any compliance
    int32_t* limit;
    S *sign, *bound, *comply, *s, *l, *inv, *isl, *e, *x;
  };
  struct Equations {
    int n;
    int32_t* limit;
    T *on, *b, *comply, *w, *y, *dy;
  };
  struct Row {
    int id, entries;
    int32_t* column;
    T* value;
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
    T *gain, *ldl, *k, *P, *p, *costate;
    Sides sides;
    Equations equal;
  };

  const Job& job_;
  int n_, nx_, nu_, nz_, m_, limits_;
  char *buffer_ = nullptr, *top_ = nullptr;
  Stage* stage_ = nullptr;
  int64_t member_[W];
  T alpha_{}, count_{}, smoothing_{};
  T *scratch_q_, *scratch_m_, *scratch_y_, *scratch_g_, *scratch_w_, *scratch_l_;
  struct Lane {
    int outcome;  // -1 while it runs
    bool resting;
    int iterations;
    double mu, primal, dual, scale, worst, kept_primal[4];
  } lane_[W];

  int nx() const { return NX ? NX : nx_; }
  int nu() const { return NX ? NU : nu_; }
  int nz() const { return NX ? NX + NU : nz_; }

  static double& at(T& v, int w) { return reinterpret_cast<double*>(&v)[w]; }
  static double at(const T& v, int w) { return reinterpret_cast<const double*>(&v)[w]; }
  static T broadcast(double v) { return T{} + v; }

  // ---- memory ------------------------------------------------------------------------------------------------------
  size_t footprint() const {
    const size_t nx = nx_, nz = nz_, nu = nu_, L = limits_, side = (2 * L + K - 1) / K * K;
    const size_t numbers = nx * nz + nx + nz * nz + nz + 2 * L + nz + nu * nx + nu * nu + nu + nx * nx + 2 * nx +
                           m_ * nz + 9 * side + 6 * L + nz + 5 * (side + L);
    const size_t integers = 2 * (side + L) + m_ * nz;
    const size_t scratch = 2 * nz * nz + nx * nx + nx * nz + 2 * L;
    const size_t per_stage = numbers * sizeof(T) + integers * 4 + sizeof(Stage) + m_ * sizeof(Row) + 64 * (60 + 2 * m_);
    return n_ * per_stage + scratch * sizeof(T) + 4096;
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
  };
  Source source(const dd_tensor& t) const {
    Source s;
    for (int w = 0; w < W; ++w) s.lane[w] = t.data + member_[w] * t.stride;
    return s;
  }
  static bool all_zero(const T& v) {
    for (int w = 0; w < W; ++w)
      if (at(v, w) != 0) return false;
    return true;
  }

  void load(int64_t first, int count) {
    const dd_problem& p = *job_.problem;
    const int nx = this->nx(), nu = this->nu(), nz = this->nz();
    for (int w = 0; w < W; ++w) member_[w] = first + (w < count ? w : count - 1);
    top_ = buffer_;
    stage_ = take<Stage>(n_);
    scratch_q_ = take<T>(nz * nz), scratch_g_ = take<T>(nz * nz), scratch_m_ = take<T>(nx * nx);
    scratch_y_ = take<T>(nx * nz), scratch_w_ = take<T>(limits_), scratch_l_ = take<T>(limits_);
    for (int w = 0; w < W; ++w) lane_[w] = Lane{-1, false, 0, 0, 0, 0, 1, 0, {}};
    count_ = T{};
    const Source A = source(p.A), B = source(p.B), c = source(p.c), H = source(p.H), g = source(p.g);
    const Source C = source(p.C), zl = source(p.z_lower), zu = source(p.z_upper), lo = source(p.lower),
                 up = source(p.upper), comply = source(p.compliance);
    const bool soft_bounds = p.bound_compliance.data != nullptr;
    const Source bound_comply = soft_bounds ? source(p.bound_compliance) : zl;
    for (int t = 0; t < n_; ++t) stage_[t].leaf = true, stage_[t].adds = false;
    for (int t = n_ - 1; t >= 0; --t) {
      Stage& st = stage_[t];
      st.parent = int(p.parent[t]);
      if (st.parent >= 0) {
        st.adds = !stage_[st.parent].leaf;
        stage_[st.parent].leaf = false;
      }
    }
    for (int t = 0; t < n_; ++t) {
      Stage& st = stage_[t];
      st.F = take<T>(nx * nz), st.c = take<T>(nx);
      for (int i = 0; i < nx; ++i) {
        for (int j = 0; j < nx; ++j) st.F[i * nz + j] = A((int64_t(t) * nx + i) * nx + j);
        for (int j = 0; j < nu; ++j) st.F[i * nz + nx + j] = B((int64_t(t) * nx + i) * nu + j);
        st.c[i] = c(int64_t(t) * nx + i);
      }
      st.H = take<T>(nz * nz), st.g = take<T>(nz);
      st.diagonal = true;
      for (int i = 0; i < nz; ++i) {
        for (int j = 0; j < nz; ++j) {
          st.H[i * nz + j] = H((int64_t(t) * nz + i) * nz + j);
          if (i != j && !all_zero(st.H[i * nz + j])) st.diagonal = false;
        }
        st.g[i] = g(int64_t(t) * nz + i);
      }
      if (st.diagonal)
        for (int i = 1; i < nz; ++i) st.H[i] = st.H[i * nz + i];
      load_limits(st, t, zl, zu, soft_bounds ? &bound_comply : nullptr, lo, up, comply, C);
      st.val = take<T>(nz + st.rows), st.dval = take<T>(nz + st.rows), st.hz = take<T>(nz);
      st.gain = take<T>(nu * nx), st.ldl = take<T>(nu * nu), st.k = take<T>(nu);
      st.P = take<T>(nx * nx), st.p = take<T>(nx), st.costate = take<T>(nx);
      for (int i = 0; i < nz + st.rows; ++i) st.dval[i] = T{};
    }
  }

  // The rows that bound anything, and the sides that exist in any lane.
  void load_limits(Stage& st, int t, const Source& zl, const Source& zu, const Source* zr, const Source& lo,
                   const Source& up, const Source& comply, const Source& C) {
    const int nz = this->nz();
    const int most = (2 * limits_ + K - 1) / K;
    Sides& sd = st.sides;
    sd.limit = take<int32_t>(most * K);
    sd.sign = take<S>(most), sd.bound = take<S>(most), sd.comply = take<S>(most), sd.s = take<S>(most);
    T *sign = reinterpret_cast<T*>(sd.sign), *bound = reinterpret_cast<T*>(sd.bound),
      *soft = reinterpret_cast<T*>(sd.comply), *start = reinterpret_cast<T*>(sd.s);
    Equations& eq = st.equal;
    eq.limit = take<int32_t>(limits_);
    eq.on = take<T>(limits_), eq.b = take<T>(limits_), eq.comply = take<T>(limits_);
    st.row = take<Row>(m_);
    st.rows = 0, eq.n = 0, sd.soft = false;
    int n = 0;
    for (int i = 0; i < limits_; ++i) {
      const int64_t at_bound = int64_t(t) * nz + i, at_row = int64_t(t) * m_ + i - nz;
      const T l = i < nz ? zl(at_bound) : lo(at_row), u = i < nz ? zu(at_bound) : up(at_row);
      const T r = i < nz ? (zr ? (*zr)(at_bound) : T{}) : comply(at_row);
      bool has_upper = false, has_lower = false, has_equal = false;
      T on_u{}, on_l{}, on_e{}, b_u = broadcast(1), b_l = broadcast(1), b_e{}, size = broadcast(INFINITY);
      for (int w = 0; w < W; ++w) {
        const double a = at(l, w), b = at(u, w);
        if (b - a <= kEqualBounds && (b - a >= -kEqualBounds)) {
          has_equal = true, at(on_e, w) = 1, at(b_e, w) = 0.5 * (a + b);
          continue;
        }
        if (b < a && at(r, w) == 0) {
          lane_[w].outcome = DD_DIVERGING;
          continue;
        }
        if (b < INFINITY) has_upper = true, at(on_u, w) = 1, at(b_u, w) = b;
        if (a > -INFINITY) has_lower = true, at(on_l, w) = 1, at(b_l, w) = -a;
        if (b > a) at(size, w) = b - a;
      }
      if (!has_upper && !has_lower && !has_equal) continue;
      int limit = i;
      if (i >= nz) {
        Row& row = st.row[st.rows];
        row.id = i - nz, row.entries = 0;
        row.column = take<int32_t>(nz), row.value = take<T>(nz);
        for (int j = 0; j < nz; ++j) {
          const T v = C((int64_t(t) * m_ + row.id) * nz + j);
          if (!all_zero(v)) row.column[row.entries] = j, row.value[row.entries++] = v;
        }
        limit = nz + st.rows++;
      }
      const bool is_soft = !all_zero(r);
      const auto add = [&](const T& on, const T& b, double direction) {
        sd.limit[n] = limit, sign[n] = on * direction, bound[n] = b, soft[n] = on * r, start[n] = size;
        sd.soft |= is_soft;
        count_ += on;
        ++n;
      };
      if (has_upper) add(on_u, b_u, 1);
      if (has_lower) add(on_l, b_l, -1);
      if (has_equal) {
        eq.limit[eq.n] = limit, eq.on[eq.n] = on_e, eq.b[eq.n] = b_e, eq.comply[eq.n] = on_e * r;
        ++eq.n;
      }
    }
    while (n % K) sd.limit[n] = 0, sign[n] = T{}, bound[n] = broadcast(1), soft[n] = T{}, start[n] = broadcast(1), ++n;
    sd.n = n / K;
    sd.l = take<S>(sd.n), sd.inv = take<S>(sd.n), sd.isl = take<S>(sd.n), sd.e = take<S>(sd.n), sd.x = take<S>(sd.n);
    eq.w = take<T>(eq.n), eq.y = take<T>(eq.n), eq.dy = take<T>(eq.n);
    for (int i = 0; i < eq.n; ++i) eq.y[i] = eq.dy[i] = T{};
    for (int i = 0; i < sd.n; ++i) sd.x[i] = sd.e[i] = S{};
  }

  // ---- small pieces ------------------------------------------------------------------------------------------------
  static S pick(const T* values, const int32_t* index, int k) {
    if constexpr (K == 1) {
      return values[index[k]];
    } else {
      S r;
      for (int j = 0; j < K; ++j) r[j] = values[index[k * K + j]];
      return r;
    }
  }
  static void add_to(T* values, const int32_t* index, int k, const S& x) {
    if constexpr (K == 1) {
      values[index[k]] += x;
    } else {
      for (int j = 0; j < K; ++j) values[index[k * K + j]] += x[j];
    }
  }
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
  // The part of a step that is taken: nothing, not even NaN, where a lane rests.
  template <class V>
  V taken(const V& step) const {
    if constexpr (W == 1) {
      return alpha_ * step;
    } else {
      return alpha_ > 0 ? alpha_ * step : V{};
    }
  }

  // Input block as L D L': unit L below the diagonal, 1 / D on it.
  void factor_inputs(T* a) const {
    const int nu = this->nu();
    for (int i = 0; i < nu; ++i) {
      T pivot = a[i * nu + i];
      const T floor = kPivot * pivot;
      for (int j = 0; j < i; ++j) {
        T v = a[i * nu + j];
        for (int k = 0; k < j; ++k) v -= a[i * nu + k] * a[j * nu + k];
        a[i * nu + j] = v;  // still L D
      }
      for (int j = 0; j < i; ++j) {
        const T scaled = a[i * nu + j] * a[j * nu + j];
        pivot -= a[i * nu + j] * scaled;
        a[i * nu + j] = scaled;
      }
      a[i * nu + i] = 1.0 / larger(pivot, floor);
    }
  }

  // ---- one Newton system -------------------------------------------------------------------------------------------
  // Riccati step of one stage. q: its Hessian in z with the limits' weights, full; written over.
  void factor_stage(Stage& st, T* __restrict q) {
    const int nx = this->nx(), nu = this->nu(), nz = this->nz();
    const T* __restrict F = st.F;
    T* __restrict y = scratch_y_;
    T* __restrict d = st.ldl;
    if (!st.leaf)
      for (int i = 0; i < nx; ++i)
        for (int j = 0; j < nx; ++j) q[i * nz + j] += st.P[i * nx + j];
    const bool root = st.parent < 0;
    // y = (value Hessian) F + cross terms in the input columns
    for (int i = 0; i < nx; ++i) {
      if constexpr (W == 1) {
        for (int j = 0; j < nz; ++j) y[i * nz + j] = j < nx ? 0 : q[i * nz + j];
        for (int k = 0; k < nx; ++k)
          for (int j = 0; j < nz; ++j) y[i * nz + j] += q[i * nz + k] * F[k * nz + j];
      } else {
        for (int j = root ? nx : 0; j < nz; ++j) {
          T v = j < nx ? T{} : q[i * nz + j];
          for (int k = 0; k < nx; ++k) v += q[i * nz + k] * F[k * nz + j];
          y[i * nz + j] = v;
        }
      }
    }
    for (int a = 0; a < nu; ++a)
      for (int b = 0; b <= a; ++b) {
        T v = q[(nx + a) * nz + nx + b];
        for (int k = 0; k < nx; ++k) v += y[k * nz + nx + a] * F[k * nz + nx + b] + F[k * nz + nx + a] * q[k * nz + nx + b];
        d[a * nu + b] = v;
      }
    factor_inputs(d);
    if (root) return;
    T* __restrict gain = st.gain;
    for (int a = 0; a < nu; ++a)
      for (int j = 0; j < nx; ++j) {
        T v{};
        for (int k = 0; k < nx; ++k) v += y[k * nz + nx + a] * F[k * nz + j];
        gain[a * nx + j] = v;
      }
    // L^-1 of the cross block; its scaled square leaves the parent's cost-to-go
    for (int a = 1; a < nu; ++a)
      for (int b = 0; b < a; ++b)
        for (int j = 0; j < nx; ++j) gain[a * nx + j] -= d[a * nu + b] * gain[b * nx + j];
    Stage& parent = stage_[st.parent];
    T* __restrict P = parent.P;
    for (int i = 0; i < nx; ++i) {
      if constexpr (W == 1) {
        T g[NX ? NX : 1];
        T* __restrict row = NX ? g : scratch_g_;
        for (int j = 0; j < nx; ++j) row[j] = 0;
        for (int k = 0; k < nx; ++k)
          for (int j = 0; j < nx; ++j) row[j] += F[k * nz + i] * y[k * nz + j];
        for (int a = 0; a < nu; ++a) {
          const T scaled = gain[a * nx + i] * d[a * nu + a];
          for (int j = 0; j < nx; ++j) row[j] -= scaled * gain[a * nx + j];
        }
        for (int j = 0; j < nx; ++j) P[i * nx + j] = st.adds ? P[i * nx + j] + row[j] : row[j];
      } else {
        for (int j = 0; j <= i; ++j) {
          T v{};
          for (int k = 0; k < nx; ++k) v += F[k * nz + i] * y[k * nz + j];
          for (int a = 0; a < nu; ++a) v -= gain[a * nx + i] * (d[a * nu + a] * gain[a * nx + j]);
          if (st.adds) v += P[i * nx + j];
          P[i * nx + j] = P[j * nx + i] = v;
        }
      }
    }
    for (int a = nu - 1; a >= 0; --a)
      for (int j = 0; j < nx; ++j) {
        T v = gain[a * nx + j] * d[a * nu + a];
        for (int b = a + 1; b < nu; ++b) v -= d[b * nu + a] * gain[b * nx + j];
        gain[a * nx + j] = v;
      }
  }

  // Linear term of the step: gradient of the stage in z -> feedforward k and the parent's p.
  void backward_stage(Stage& st, const T* __restrict gradient) {
    const int nx = this->nx(), nu = this->nu(), nz = this->nz();
    const T* __restrict F = st.F;
    const T* __restrict d = st.ldl;
    T px[NX ? NX : 1], hu[NX ? NU : 1];
    T* __restrict p = NX ? px : scratch_y_;
    T* __restrict h = NX ? hu : scratch_y_ + nx;
    T* __restrict k = st.k;
    for (int i = 0; i < nx; ++i) p[i] = st.leaf ? gradient[i] : gradient[i] + st.p[i];
    for (int a = 0; a < nu; ++a) {
      T v = gradient[nx + a];
      for (int i = 0; i < nx; ++i) v += F[i * nz + nx + a] * p[i];
      h[a] = v;
    }
    for (int a = 0; a < nu; ++a) {
      T v = h[a];
      for (int b = 0; b < a; ++b) v -= d[a * nu + b] * k[b];
      k[a] = v;
    }
    for (int a = nu - 1; a >= 0; --a) {
      T v = k[a] * d[a * nu + a];
      for (int b = a + 1; b < nu; ++b) v -= d[b * nu + a] * k[b];
      k[a] = v;
    }
    if (st.parent < 0) return;
    T* __restrict up = stage_[st.parent].p;
    for (int j = 0; j < nx; ++j) {
      T v = st.adds ? up[j] : T{};
      for (int i = 0; i < nx; ++i) v += F[i * nz + j] * p[i];
      for (int a = 0; a < nu; ++a) v -= st.gain[a * nx + j] * h[a];
      up[j] = v;
    }
  }

  // Step of one stage from its parent's, with that of its rows.
  void forward_stage(Stage& st) {
    const int nx = this->nx(), nu = this->nu(), nz = this->nz();
    const T* __restrict F = st.F;
    T* __restrict dz = st.dval;
    const T* __restrict past = st.parent < 0 ? nullptr : stage_[st.parent].dval;
    for (int a = 0; a < nu; ++a) {
      T v = -st.k[a];
      if (past)
        for (int i = 0; i < nx; ++i) v -= st.gain[a * nx + i] * past[i];
      dz[nx + a] = v;
    }
    for (int i = 0; i < nx; ++i) {
      T v{};
      if (past)
        for (int j = 0; j < nx; ++j) v += F[i * nz + j] * past[j];
      for (int a = 0; a < nu; ++a) v += F[i * nz + nx + a] * dz[nx + a];
      dz[i] = v;
    }
    apply_rows(st, dz);
  }

  // Values of the rows behind the z that they bound.
  void apply_rows(const Stage& st, T* __restrict values) const {
    const int nz = this->nz();
    for (int r = 0; r < st.rows; ++r) {
      const Row& row = st.row[r];
      T v{};
      for (int j = 0; j < row.entries; ++j) v += row.value[j] * values[row.column[j]];
      values[nz + r] = v;
    }
  }
  // Pull a number per row back onto z.
  void pull_rows(const Stage& st, const T* __restrict per_limit, T* __restrict gradient) const {
    const int nz = this->nz();
    for (int r = 0; r < st.rows; ++r) {
      const Row& row = st.row[r];
      const T v = per_limit[nz + r];
      for (int j = 0; j < row.entries; ++j) gradient[row.column[j]] += row.value[j] * v;
    }
  }
  void cost_gradient(Stage& st) const {
    const int nz = this->nz();
    for (int i = 0; i < nz; ++i) {
      T v = st.g[i];
      if (st.diagonal)
        v += st.H[i] * st.val[i];
      else
        for (int j = 0; j < nz; ++j) v += st.H[i * nz + j] * st.val[j];
      st.hz[i] = v;
    }
  }
  void hessian(const Stage& st, const T* __restrict weight, T* __restrict q) const {
    const int nz = this->nz();
    for (int i = 0; i < nz * nz; ++i) q[i] = st.diagonal ? T{} : st.H[i];
    for (int i = 0; i < nz; ++i) q[i * nz + i] += st.diagonal ? st.H[i] + weight[i] : weight[i];
    for (int r = 0; r < st.rows; ++r) {
      const Row& row = st.row[r];
      for (int i = 0; i < row.entries; ++i) {
        const T scaled = weight[nz + r] * row.value[i];
        T* to = q + row.column[i] * nz;
        for (int j = 0; j < row.entries; ++j) to[row.column[j]] += scaled * row.value[j];
      }
    }
  }

  // Adjoint recursion: the costate of a stage from its children's; raises `worst` to the input gradient left.
  void costate_stage(Stage& st, const T* __restrict gradient, T& worst) {
    const int nx = this->nx(), nz = this->nz();
    T* __restrict co = st.costate;
    for (int i = 0; i < nx; ++i) co[i] = st.leaf ? gradient[i] : gradient[i] + co[i];
    for (int j = nx; j < nz; ++j) {
      T v = gradient[j];
      for (int i = 0; i < nx; ++i) v += st.F[i * nz + j] * co[i];
      worst = larger(worst, magnitude(v));
    }
    if (st.parent < 0) return;
    T* __restrict up = stage_[st.parent].costate;
    for (int j = 0; j < nx; ++j) {
      T v = st.adds ? up[j] : T{};
      for (int i = 0; i < nx; ++i) v += st.F[i * nz + j] * co[i];
      up[j] = v;
    }
  }
};

}  // namespace
