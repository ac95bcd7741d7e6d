// What the compiled stages share: how they are exported, views of row-major arrays, threads over independent rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <new>
#include <thread>
#include <vector>

#define DDS_EXPORT extern "C" __attribute__((visibility("default")))

namespace dds {

using Index = std::int64_t;

// Every exported function returns 0, or 1 where memory ran out; exceptions never leave the library.
template <class Work>
Index guarded(Work&& work) noexcept {
    try {
        work();
        return 0;
    } catch (...) {
        return 1;
    }
}

// work(i) for i < count on so many threads. Rows must be independent; what a row costs decides if threads pay.
template <class Work>
void over_rows(Index count, Index threads, Work&& work) {
    threads = std::min(threads, count);
    if (threads <= 1) {
        for (Index i = 0; i < count; ++i) work(i);
        return;
    }
    std::vector<std::thread> pool;
    const auto part = [&](Index k) {
        for (Index i = k * count / threads; i < (k + 1) * count / threads; ++i) work(i);
    };
    pool.reserve(threads - 1);
    for (Index k = 1; k < threads; ++k) pool.emplace_back(part, k);
    part(0);
    for (auto& t : pool) t.join();
}

}  // namespace dds
