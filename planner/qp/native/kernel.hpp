// What one compilation of the solver offers to the dispatcher.
#pragma once

#include <stdint.h>

#include "dualdrive_qp.h"

struct Job {
  const dd_problem* problem;
  const dd_options* options;
  const dd_point* start;  // where to begin (solve) or to differentiate (adjoint)
  dd_solution* solution;
  const dd_tensor* grad_z;
  dd_gradient* gradient;
  double stop_at;          // monotonic clock, s
  int64_t gradient_first;  // the member whose gradient is written first
};

// Blocks of members, handed out one at a time to whoever asks.
struct BlockQueue {
  int64_t (*next)(void* state);  // first member of the next block; at or beyond `last` when there is none
  void (*done)(void* state, int64_t first, int64_t count);
  void* state;
  int64_t last;
};

struct Entry {
  int (*wide)(const Job& job, const BlockQueue& queue);    // blocks of `width` members
  int (*single)(const Job& job, const BlockQueue& queue);  // blocks of one
};

struct KernelTable {
  int width;
  Entry solve, adjoint;
};

extern const KernelTable dd_kernel_baseline, dd_kernel_avx2, dd_kernel_avx512;
