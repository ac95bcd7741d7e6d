// Doubles side by side: one number of W instances, or W numbers of one instance.
#pragma once

#include <cstdint>

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

template <class V>
inline __attribute__((always_inline)) V larger(V a, V b) {
  return a > b ? a : b;
}
template <class V>
inline __attribute__((always_inline)) V smaller(V a, V b) {
  return a < b ? a : b;
}
template <class V>
inline __attribute__((always_inline)) V magnitude(V a) {
  return larger(a, -a);
}

}  // namespace
