// What the compiled stages share: how they are exported, views of row-major arrays, threads over independent rows.
#pragma once

#include <algorithm>
#include <atomic>
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

// work(memory, i) for i < count on so many threads, which take rows a few at a time; memory: what `make` returns, one per
// thread. Rows must be independent; what a row costs decides if threads pay.
template <class Make, class Work>
void over_rows_with(Index count, Index threads, Make&& make, Work&& work) {
    threads = std::min(threads, count);
    const Index few = std::max<Index>(1, count / (8 * std::max<Index>(threads, 1)));
    std::atomic<Index> next{0};
    std::atomic<bool> failed{false};
    const auto part = [&] {
        try {
            auto memory = make();
            for (Index first; !failed && (first = next.fetch_add(few)) < count;)
                for (Index i = first; i < std::min(first + few, count); ++i) work(memory, i);
        } catch (...) {
            failed = true;
        }
    };
    std::vector<std::thread> pool;
    try {
        for (Index k = 1; k < threads; ++k) pool.emplace_back(part);
    } catch (...) {
        // No more threads to be had: those that run do the work.
    }
    part();
    for (auto& t : pool) t.join();
    if (failed) throw std::bad_alloc();
}

// work(i) for i < count.
template <class Work>
void over_rows(Index count, Index threads, Work&& work) {
    over_rows_with(count, threads, [] { return 0; }, [&](int, Index i) { work(i); });
}

// Before a loop whose turns write nothing that another one reads: it may become vectors.
#if defined(__clang__)
#define DDS_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define DDS_INDEPENDENT _Pragma("GCC ivdep")
#else
#define DDS_INDEPENDENT
#endif

}  // namespace dds
