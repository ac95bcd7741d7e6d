// W instances side by side: the data of a tree of stages. How they are packed is in stage_load.hpp.
#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.hpp"
#include "lanes.hpp"

namespace {

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
    bool cross;       // H or a row may have entries beside the diagonal in the inputs' columns
    int rows;
    Row* row;
    // Where rows fill registers: the columns that any row has an entry in, and these, a register of rows at a time.
    int touched;
    int32_t* touch;
    T* across;
    T *F, *c, *H, *g;  // F = [A B], nx x nz; H full, or its diagonal
    T *val, *dval;     // what the limits bound: z, then C z of the rows kept; and its step
    T *hz;             // H z + g
    T *gain, *ldl, *k, *p, *costate;
    T *turned, *entry, *inverse;  // where rows fill registers: columns of [A; -gain] and of B, (input block)^-1; gain is negative
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
                           (kRows ? 8 * (5 * nx + 4 * nz + 4 * nu + m_ + 8) + (nz + 2) * (m_ + 8) : 0);
    const size_t integers = 2 * (side + L) + m_ * nz + nz;
    const size_t scratch = 3 * nz * nz + nx * nz + m_ * nz + 9 * L + 64;
    const size_t per_stage = numbers * sizeof(T) + integers * 4 + sizeof(Stage) + m_ * sizeof(Row) + 64 * (60 + 2 * m_);
    return n_ * per_stage + scratch * sizeof(T) + 12 * (nz + 1) * (nx + 1) + 24 * n_ + 8192;
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
