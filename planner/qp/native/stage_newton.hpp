// One Newton system over a tree of stages, by a Riccati recursion from the leaves to the roots and back.
#pragma once

#include "stage_load.hpp"

namespace {

constexpr double kPivot = 1e-13;  // smallest pivot of the input block, relative to its diagonal

template <int W, int NX, int NU>
class StageNewton : public LoadedStages<W, NX, NU> {
 protected:
  using Base = LoadedStages<W, NX, NU>;
  using typename Base::R;
  using typename Base::Row;
  using typename Base::Stage;
  using typename Base::T;
  using Base::kMatrix;
  using Base::kPadded;
  using Base::kRows;
  using Base::kVector;
  using Base::pattern_;
  using Base::scratch_g_;
  using Base::scratch_y_;
  using Base::stage_;

 public:
  using Base::Base;

 protected:
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

  // Column j of F x v, whose numbers are `step` apart.
  DD_INLINE T column_dot(const T* __restrict F, int j, const T* __restrict v, int step, T from) const {
    const int nx = this->nx(), row = this->row_z();
    for (int e = 0; e < pattern_.rows[j]; ++e) {
      const int k = pattern_.row[j * nx + e];
      from += F[k * row + j] * v[k * step];
    }
    return from;
  }
  // Row i of F x (past state, input).
  DD_INLINE T row_dot(const T* __restrict F, int i, const T* __restrict past, const T* __restrict z, T from) const {
    const int states = pattern_.states[i], all = pattern_.columns[i];
    const int32_t* column = pattern_.column + i * this->nz();
    F += i * this->row_z();
    if (past)
      for (int e = 0; e < states; ++e) from += F[column[e]] * past[column[e]];
    for (int e = states; e < all; ++e) from += F[column[e]] * z[column[e]];
    return from;
  }

  // Riccati step of one stage whose limits have these weights: gains, and the parent's cost-to-go.
  void factor_stage(Stage& st, const T* __restrict weight) {
    alignas(64) T local[kMatrix];
    T* q = NX ? local : this->scratch_q_;
    if constexpr (kRows) {
      hessian_rows(st, weight, reinterpret_cast<R*>(q));
      eliminate_rows(st, q);
    } else {
      if (!st.leaf) q = st.P;
      if (st.cross)
        hessian(st, weight, q), eliminate<true>(st, q);
      else
        hessian_apart(st, weight, q), eliminate<false>(st, q);
    }
  }

  // Of a stage in z: cost and weights of its limits, added to the cost-to-go of its children where there are any.
  void hessian(const Stage& st, const T* __restrict weight, T* __restrict q) const {
    const int nx = this->nx(), nz = this->nz();
    for (int i = 0; i < nz; ++i)
      for (int j = 0; j < nz; ++j) {
        const bool known = !st.leaf && i < nx && j < nx;
        if (st.diagonal)
          q[i * nz + j] = known ? q[i * nz + j] : T{};
        else
          q[i * nz + j] = known ? q[i * nz + j] + st.H[i * nz + j] : st.H[i * nz + j];
      }
    for (int i = 0; i < nz; ++i) q[i * nz + i] += st.diagonal ? st.H[i] + weight[i] : weight[i];
    add_rows(st, weight, q);
  }
  // The same without cross terms: only the states' block and the inputs' diagonal are written.
  void hessian_apart(const Stage& st, const T* __restrict weight, T* __restrict q) const {
    const int nx = this->nx(), nz = this->nz();
    if (st.leaf)
      for (int i = 0; i < nx; ++i)
        for (int j = 0; j < nx; ++j) q[i * nz + j] = T{};
    for (int i = 0; i < nz; ++i) q[i * nz + i] = st.H[i] + weight[i] + (i < nx ? q[i * nz + i] : T{});
    add_rows(st, weight, q);
  }
  DD_INLINE void add_rows(const Stage& st, const T* __restrict weight, T* __restrict q) const {
    const int nz = this->nz();
    for (int r = 0; r < st.rows; ++r) {
      const Row& row = st.row[r];
      for (int i = 0; i < row.entries; ++i) {
        const T scaled = weight[nz + r] * row.value[i];
        T* to = q + row.column[i] * nz;
        for (int j = 0; j < row.entries; ++j) to[row.column[j]] += scaled * row.value[j];
      }
    }
  }

  // q: the stage's Hessian.
  template <bool Cross>
  void eliminate(Stage& st, const T* __restrict q) {
    const int nx = this->nx(), nu = this->nu(), nz = this->nz();
    const T* __restrict F = st.F;
    T local_y[NX && !kRows ? NX * (NX + NU) : 1], local_g[NX && !kRows ? NX * (NX + NU) : 1];
    T local_x[NX && !kRows ? NX + NU : 1];
    T* __restrict y = NX ? local_y : scratch_y_;
    T* __restrict g = NX ? local_g : scratch_g_;
    T* __restrict x = NX ? local_x : scratch_g_ + nx * nz;
    T* __restrict d = st.ldl;
    const bool root = st.parent < 0;
    // y = (state block) F + cross terms in the input columns
    for (int j = root ? nx : 0; j < nz; ++j) {
      for (int i = 0; i < nx; ++i) x[i] = Cross && j >= nx ? q[i * nz + j] : T{};
      for (int e = 0; e < pattern_.rows[j]; ++e) {
        const int k = pattern_.row[j * nx + e];
        const T f = F[k * nz + j];
        for (int i = 0; i < nx; ++i) x[i] += f * q[k * nz + i];  // symmetric: rows are columns
      }
      for (int i = 0; i < nx; ++i) y[i * nz + j] = x[i];
    }
    for (int a = 0; a < nu; ++a)
      for (int b = 0; b <= a; ++b) {
        const T own = Cross || a == b ? q[(nx + a) * nz + nx + b] : T{};
        const T v = column_dot(F, nx + b, y + nx + a, nz, own);
        d[a * nu + b] = Cross ? column_dot(F, nx + a, q + nx + b, nz, v) : v;
      }
    factor_inputs(d);
    if (root) return;
    // g = (past-state rows of F') y
    for (int i = 0; i < nx; ++i) {
      for (int j = 0; j < nz; ++j) x[j] = T{};
      for (int e = 0; e < pattern_.rows[i]; ++e) {
        const int k = pattern_.row[i * nx + e];
        const T f = F[k * nz + i];
        for (int j = 0; j < nz; ++j) x[j] += f * y[k * nz + j];
      }
      for (int j = 0; j < nz; ++j) g[i * nz + j] = x[j];
    }
    // L^-1 of the cross block; its scaled square leaves the parent's cost-to-go
    T* __restrict gain = st.gain;
    for (int a = 0; a < nu; ++a)
      for (int j = 0; j < nx; ++j) {
        T v = g[j * nz + nx + a];
        for (int b = 0; b < a; ++b) v -= d[a * nu + b] * gain[b * nx + j];
        gain[a * nx + j] = v;
      }
    T* __restrict P = stage_[st.parent].P;
    for (int i = 0; i < nx; ++i) {
      for (int a = 0; a < nu; ++a) {
        const T scaled = gain[a * nx + i] * d[a * nu + a];
        for (int j = 0; j < nx; ++j) g[i * nz + j] -= scaled * gain[a * nx + j];
      }
      if (st.adds)
        for (int j = 0; j < nx; ++j) P[i * nz + j] += g[i * nz + j];
      else
        for (int j = 0; j < nx; ++j) P[i * nz + j] = g[i * nz + j];
    }
    for (int a = nu - 1; a >= 0; --a)
      for (int j = 0; j < nx; ++j) {
        T v = gain[a * nx + j] * d[a * nu + a];
        for (int b = a + 1; b < nu; ++b) v -= d[b * nu + a] * gain[b * nx + j];
        gain[a * nx + j] = v;
      }
  }

  // ---- the same for one instance, a row of a matrix in each register ------------------------------------------------
  // v where from <= position < to, else 0.
  static DD_INLINE R only(const R& v, int from, int to) {
    using Bits = typename VectorOf<kPadded>::bits;
    Bits keep{};
    for (int j = 0; j < kPadded; ++j) keep[j] = j >= from && j < to ? -1 : 0;
    return R(Bits(v) & keep);
  }
  // sum_i v[i] row[i]; several sums at once, for a single one would wait for itself.
  template <int N>
  static DD_INLINE R combine(const R& v, const R* __restrict row, R first) {
    R sum[4] = {first, R{}, R{}, R{}};
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) sum[i % 4] += v[i] * row[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
  void hessian_rows(const Stage& st, const T* __restrict weight, R* __restrict q) const {
    const R *H = reinterpret_cast<const R*>(st.H), *P = reinterpret_cast<const R*>(st.P);
    const R diagonal = st.diagonal ? H[0] + load_row<R>(weight) : load_row<R>(weight);
#pragma GCC unroll 8
    for (int i = 0; i < NX + NU; ++i) {
      const R own = only(diagonal, i, i + 1);
      q[i] = st.diagonal ? own : H[i] + own;
      if (i < NX && !st.leaf) q[i] += P[i];
    }
    for (int e = 0; e < st.touched; ++e) {
      const int i = st.touch[e];
      R v = q[i], more{};
      for (int r = 0; r < st.rows; ++r) {
        const T* c = st.row[r].value;
        (r % 2 ? more : v) += weight[NX + NU + r] * c[i] * load_row<R>(c);
      }
      q[i] = v + more;
    }
  }

  void eliminate_rows(Stage& st, const T* __restrict q) {
    constexpr int nx = NX, nu = NU, nz = NX + NU, ld = kPadded;
    const T* __restrict F = st.F;
    const R *Fr = reinterpret_cast<const R*>(F), *qr = reinterpret_cast<const R*>(q);
    T* __restrict d = st.ldl;
    R y[NX + 1], cross[NU + 1];  // (state block) F + cross terms; the input rows of what is left
#pragma GCC unroll 8
    for (int i = 0; i < nx; ++i) {
      R v = only(qr[i], nx, nz), more{};
#pragma GCC unroll 8
      for (int k = 0; k < nx; ++k) (k % 2 ? more : v) += q[i * ld + k] * Fr[k];
      y[i] = v + more;
    }
#pragma GCC unroll 8
    for (int a = 0; a < nu; ++a) {
      R v{}, more{}, across{};
#pragma GCC unroll 8
      for (int k = 0; k < nx; ++k)
        (k % 2 ? more : v) += F[k * ld + nx + a] * y[k], across += q[(nx + a) * ld + k] * Fr[k];
      v += more + across;
      for (int b = 0; b <= a; ++b) d[a * nu + b] = q[(nx + a) * ld + nx + b] + v[nx + b];
      cross[a] = v;
    }
    factor_inputs(d);
    R inverse[NU + 1];  // of the input block, where the inputs are
#pragma GCC unroll 8
    for (int a = 0; a < nu; ++a) inverse[a] = only(R{} + 1.0, nx + a, nx + a + 1);
    solve_rows(d, inverse);
    memcpy(st.inverse, inverse, sizeof(R) * nu);
    if (st.parent < 0) return;
#pragma GCC unroll 8
    for (int a = 1; a < nu; ++a)
      for (int b = 0; b < a; ++b) cross[a] -= d[a * nu + b] * cross[b];
    R gain[NU + 1];  // first D^-1 L^-1 of the cross block, symmetric with it; then the gain
#pragma GCC unroll 8
    for (int a = 0; a < nu; ++a) gain[a] = cross[a] * d[a * nu + a];
    R* P = reinterpret_cast<R*>(stage_[st.parent].P);
#pragma GCC unroll 8
    for (int i = 0; i < nx; ++i) {
      R v{}, more{};
#pragma GCC unroll 8
      for (int k = 0; k < nx; ++k) (k % 2 ? more : v) += F[k * ld + i] * y[k];
#pragma GCC unroll 8
      for (int a = 0; a < nu; ++a) (a % 2 ? more : v) -= gain[a][i] * cross[a];
      v = only(v + more, 0, nx);
      P[i] = st.adds ? P[i] + v : v;
    }
    R turned[kPadded]{};  // rows of A, then of the gain
#pragma GCC unroll 8
    for (int a = nu - 1; a >= 0; --a) {
      for (int b = a + 1; b < nu; ++b) gain[a] -= d[b * nu + a] * gain[b];
      turned[nx + a] = -only(gain[a], 0, nx);
    }
    memcpy(st.gain, turned + nx, sizeof(R) * nu);
#pragma GCC unroll 8
    for (int i = 0; i < nx; ++i) turned[i] = only(Fr[i], 0, nx);
    transpose(turned);
    memcpy(st.turned, turned, sizeof(R) * nx);
  }
  // (input block)^-1 of rows.
  DD_INLINE void solve_rows(const T* __restrict d, R* row) const {
#pragma GCC unroll 8
    for (int a = 0; a < NU; ++a)
      for (int b = 0; b < a; ++b) row[a] -= d[a * NU + b] * row[b];
#pragma GCC unroll 8
    for (int a = NU - 1; a >= 0; --a) {
      row[a] *= d[a * NU + a];
      for (int b = a + 1; b < NU; ++b) row[a] -= d[b * NU + a] * row[b];
    }
  }

  // Linear term of the step: gradient of the stage in z -> feedforward k and the parent's p.
  void backward_stage(Stage& st, const T* __restrict gradient) {
    if constexpr (kRows) return backward_row(st, only(load_row<R>(gradient), 0, NX + NU));
    const int nx = this->nx(), nu = this->nu();
    const T* __restrict F = st.F;
    T px[kVector], hu[NX ? NU : 1];
    T* __restrict p = NX ? px : scratch_y_;
    T* __restrict h = NX ? hu : scratch_y_ + nx;
    for (int i = 0; i < nx; ++i) p[i] = st.leaf ? gradient[i] : gradient[i] + st.p[i];
    for (int a = 0; a < nu; ++a) h[a] = column_dot(F, nx + a, p, 1, gradient[nx + a]);
    solve_inputs(st, h);
    if (st.parent < 0) return;
    T* __restrict up = stage_[st.parent].p;
    for (int j = 0; j < nx; ++j) {
      T v = column_dot(F, j, p, 1, st.adds ? up[j] : T{});
      for (int a = 0; a < nu; ++a) v -= st.gain[a * nx + j] * h[a];
      up[j] = v;
    }
  }
  DD_INLINE void backward_row(Stage& st, const R& slope) {
    const R *gain = reinterpret_cast<const R*>(st.gain), *inverse = reinterpret_cast<const R*>(st.inverse);
    const R p = st.leaf ? slope : slope + *reinterpret_cast<const R*>(st.p);
    R v = combine<NX>(p, reinterpret_cast<const R*>(st.F), only(slope, NX, NX + NU)), k{}, down{};
#pragma GCC unroll 8
    for (int a = 0; a < NU; ++a) k -= v[NX + a] * inverse[a], down += v[NX + a] * gain[a];
    *reinterpret_cast<R*>(st.k) = k;
    if (st.parent < 0) return;
    R* up = reinterpret_cast<R*>(stage_[st.parent].p);
    v = only(v, 0, NX) + down;
    *up = st.adds ? *up + v : v;
  }
  // The same from the gradient of the cost, in hz, and a number per limit.
  void newton_gradient(Stage& st, const T* linear) {
    const int nz = this->nz();
    if constexpr (kRows) {
      R slope = only(load_row<R>(st.hz) + load_row<R>(linear), 0, NX + NU);
      for (int r = 0; r < st.rows; ++r) slope += linear[nz + r] * *reinterpret_cast<const R*>(st.row[r].value);
      backward_row(st, slope);
    } else {
      alignas(64) T local[kVector];
      T* gradient = NX ? local : scratch_g_;
      for (int i = 0; i < nz; ++i) gradient[i] = st.hz[i] + linear[i];
      pull_rows(st, linear, gradient);
      backward_stage(st, gradient);
    }
  }
  // k = (input block)^-1 h.
  DD_INLINE void solve_inputs(Stage& st, const T* __restrict h) const {
    const int nu = this->nu();
    const T* __restrict d = st.ldl;
    T* __restrict k = st.k;
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
  }

  // Step of one stage from its parent's, with that of its rows.
  void forward_stage(Stage& st) {
    const int nx = this->nx(), nu = this->nu();
    T* __restrict dz = st.dval;
    if constexpr (kRows) {
      R step = *reinterpret_cast<const R*>(st.k);
      if (st.parent >= 0)
        step = combine<NX>(load_row<R>(stage_[st.parent].dval), reinterpret_cast<const R*>(st.turned), step);
      R moved = step;
#pragma GCC unroll 8
      for (int a = 0; a < NU; ++a) moved += step[NX + a] * reinterpret_cast<const R*>(st.entry)[a];
      step = moved;
      memcpy(dz, &step, sizeof(R));
      return apply_rows(st, dz);
    }
    const T* __restrict past = st.parent < 0 ? nullptr : stage_[st.parent].dval;
    for (int a = 0; a < nu; ++a) {
      T v = -st.k[a], more{};
      if (past)
        for (int i = 0; i < nx; ++i) (i % 2 ? more : v) -= st.gain[a * nx + i] * past[i];
      dz[nx + a] = v + more;
    }
    for (int i = 0; i < nx; ++i) dz[i] = row_dot(st.F, i, past, dz, T{});
    apply_rows(st, dz);
  }

  // Values of the rows behind the z that they bound.
  void apply_rows(const Stage& st, T* __restrict values) const {
    const int nz = this->nz();
    if constexpr (kRows) {
      const int rows = (st.rows + kPadded - 1) / kPadded * kPadded;
      for (int r = 0; r < rows; r += kPadded) {
        R v{};
        for (int e = 0; e < st.touched; ++e) v += values[st.touch[e]] * load_row<R>(st.across + e * rows + r);
        memcpy(values + nz + r, &v, sizeof(R));
      }
      return;
    }
    for (int r = 0; r < st.rows; ++r) {
      const Row& row = st.row[r];
      T v{};
      for (int e = 0; e < row.entries; ++e) v += this->entry(row, e) * values[row.column[e]];
      values[nz + r] = v;
    }
  }
  // Pull a number per row back onto z. Both are at least a register long where rows fill registers.
  void pull_rows(const Stage& st, const T* __restrict per_limit, T* __restrict gradient) const {
    const int nz = this->nz();
    if constexpr (kRows) {
      R v = load_row<R>(gradient);
      for (int r = 0; r < st.rows; ++r) v += per_limit[nz + r] * *reinterpret_cast<const R*>(st.row[r].value);
      memcpy(gradient, &v, sizeof(R));
    } else {
      for (int r = 0; r < st.rows; ++r) {
        const Row& row = st.row[r];
        for (int e = 0; e < row.entries; ++e) gradient[row.column[e]] += row.value[e] * per_limit[nz + r];
      }
    }
  }
  void cost_gradient(Stage& st) const {
    const int nz = this->nz();
    if constexpr (kRows)
      if (st.diagonal) {
        const R hz = load_row<R>(st.g) + load_row<R>(st.H) * load_row<R>(st.val);
        memcpy(st.hz, &hz, sizeof(R));
        return;
      }
    for (int i = 0; i < nz; ++i) {
      T v = st.g[i];
      if (st.diagonal)
        v += st.H[i] * st.val[i];
      else
        for (int j = 0; j < nz; ++j) v += st.H[i * this->row_z() + j] * st.val[j];
      st.hz[i] = v;
    }
  }
  // Adjoint recursion: the costate of a stage from its children's; raises `worst` to the input gradient left.
  void costate_stage(Stage& st, const T* __restrict gradient, T& worst) {
    const int nx = this->nx(), nz = this->nz();
    T* __restrict co = st.costate;
    for (int i = 0; i < nx; ++i) co[i] = st.leaf ? gradient[i] : gradient[i] + co[i];
    for (int j = nx; j < nz; ++j) worst = larger(worst, magnitude(column_dot(st.F, j, co, 1, gradient[j])));
    if (st.parent < 0) return;
    T* __restrict up = stage_[st.parent].costate;
    for (int j = 0; j < nx; ++j) up[j] = column_dot(st.F, j, co, 1, st.adds ? up[j] : T{});
  }
};

}  // namespace
