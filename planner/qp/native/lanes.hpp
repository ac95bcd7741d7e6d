// Doubles side by side: one number of W instances, or W numbers of one instance.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define DD_WIDTH 8
#elif defined(__AVX2__)
#define DD_WIDTH 4
#else
#define DD_WIDTH 2
#endif

// Everything has internal linkage: the same source is compiled for several instruction sets, and the linker
// must not merge their copies.
namespace {

template <int W>
struct VectorOf {
  typedef double type __attribute__((vector_size(8 * W)));
  typedef long long bits __attribute__((vector_size(8 * W)));
};

// T: one number per instance. S: K numbers that the passes over limits treat at once; K = 1 where the lanes are
// instances already, else the limits of the only instance fill the register.
template <int W>
struct Lanes {
  using T = typename VectorOf<W>::type;
  using S = T;
  static constexpr int K = 1;
};
template <>
struct Lanes<1> {
  using T = double;
  using S = typename VectorOf<DD_WIDTH>::type;
  static constexpr int K = DD_WIDTH;
};

#define DD_ALWAYS __attribute__((always_inline))
#define DD_INLINE inline DD_ALWAYS

template <class V>
DD_INLINE V larger(V a, V b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) return V(_mm512_maskz_max_pd(0xff, __m512d(a), __m512d(b)));
#endif
  return a > b ? a : b;
}
template <class V>
DD_INLINE V smaller(V a, V b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) return V(_mm512_maskz_min_pd(0xff, __m512d(a), __m512d(b)));
#endif
  return a < b ? a : b;
}
DD_INLINE double magnitude(double a) { return __builtin_fabs(a); }
template <class V>
DD_INLINE V magnitude(V a) {
  using Bits = typename VectorOf<sizeof(V) / 8>::bits;
  return V(Bits(a) & 0x7fffffffffffffffLL);
}

// Whether a comparison holds in any lane.
DD_INLINE bool any(bool mask) { return mask; }
template <class M>
DD_INLINE bool any(const M& mask) {
#if defined(__AVX512F__)
  if constexpr (sizeof(M) == 64) return _mm512_test_epi64_mask(__m512i(mask), __m512i(mask)) != 0;
#endif
  bool result = false;
  for (unsigned w = 0; w < sizeof(M) / 8; ++w) result |= mask[w] != 0;
  return result;
}

template <class V>
DD_INLINE V load_row(const double* from) {
  V r;
  memcpy(&r, from, sizeof(V));
  return r;
}

// A square of numbers, row by row, the other way round.
template <class V, int W>
DD_INLINE void transpose(V (&a)[W]) {
  V b[W];
  if constexpr (W == 8) {
#pragma GCC unroll 8
    for (int w = 0; w < 8; w += 2) {
      b[w] = __builtin_shufflevector(a[w], a[w + 1], 0, 8, 2, 10, 4, 12, 6, 14);
      b[w + 1] = __builtin_shufflevector(a[w], a[w + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
#pragma GCC unroll 8
    for (int k = 0; k < 4; ++k) {
      const int w = k + (k & 2);
      a[w] = __builtin_shufflevector(b[w], b[w + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      a[w + 2] = __builtin_shufflevector(b[w], b[w + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
#pragma GCC unroll 8
    for (int w = 0; w < 4; ++w) {
      b[w] = __builtin_shufflevector(a[w], a[w + 4], 0, 1, 2, 3, 8, 9, 10, 11);
      b[w + 4] = __builtin_shufflevector(a[w], a[w + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
  } else if constexpr (W == 4) {
    V c[W];
    for (int w = 0; w < 4; w += 2) {
      c[w] = __builtin_shufflevector(a[w], a[w + 1], 0, 4, 2, 6);
      c[w + 1] = __builtin_shufflevector(a[w], a[w + 1], 1, 5, 3, 7);
    }
    for (int w = 0; w < 2; ++w) {
      b[w] = __builtin_shufflevector(c[w], c[w + 2], 0, 1, 4, 5);
      b[w + 2] = __builtin_shufflevector(c[w], c[w + 2], 2, 3, 6, 7);
    }
  } else {
    b[0] = __builtin_shufflevector(a[0], a[1], 0, 2);
    b[1] = __builtin_shufflevector(a[0], a[1], 1, 3);
  }
#pragma GCC unroll 8
  for (int w = 0; w < W; ++w) a[w] = b[w];
}

// out[i] = (lane[0][i], lane[1][i], ...) for i < n. The last square may overlap the one before.
DD_INLINE void interleave(double* out, const double* const* lane, int64_t from, int n) {
  if (n > 0) memcpy(out, lane[0] + from, sizeof(double) * n);
}
template <class V>
DD_INLINE void interleave(V* out, const double* const* lane, int64_t from, int n) {
  constexpr int W = sizeof(V) / 8;
  if (n >= W) {
    for (int i = 0; i < n; i += W) {
      const int first = smaller(i, n - W);
      V a[W];
#pragma GCC unroll 8
      for (int w = 0; w < W; ++w) a[w] = load_row<V>(lane[w] + from + first);
      transpose(a);
#pragma GCC unroll 8
      for (int w = 0; w < W; ++w) out[first + w] = a[w];
    }
    return;
  }
#if defined(__AVX512F__)
  if constexpr (W == 8) {
    const __mmask8 known = __mmask8((1 << n) - 1);
    V a[W];
#pragma GCC unroll 8
    for (int w = 0; w < W; ++w) a[w] = V(_mm512_maskz_loadu_pd(known, lane[w] + from));
    transpose(a);
    for (int i = 0; i < n; ++i) out[i] = a[i];
    return;
  }
#endif
  for (int i = 0; i < n; ++i) {
    V r{};
    for (int w = 0; w < W; ++w) r[w] = lane[w][from + i];
    out[i] = r;
  }
}

// The other way: lane[w][from + i] = in[i][w] for i < n and w < count.
DD_INLINE void spread(double* const* lane, int64_t from, const double* in, int n, int) {
  if (n > 0) memcpy(lane[0] + from, in, sizeof(double) * n);
}
template <class V>
DD_INLINE void spread(double* const* lane, int64_t from, const V* in, int n, int count) {
  constexpr int W = sizeof(V) / 8;
  if (n >= W) {
    for (int i = 0; i < n; i += W) {
      const int first = smaller(i, n - W);
      V a[W];
#pragma GCC unroll 8
      for (int w = 0; w < W; ++w) a[w] = in[first + w];
      transpose(a);
      for (int w = 0; w < count; ++w) memcpy(lane[w] + from + first, &a[w], sizeof(V));
    }
    return;
  }
  for (int i = 0; i < n; ++i)
    for (int w = 0; w < count; ++w) lane[w][from + i] = in[i][w];
}

}  // namespace
