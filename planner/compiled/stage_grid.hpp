// The tree of intervals that both programs are written on; see planner/grid.py.
#pragma once

#include "arrays.hpp"

namespace dds {

// length: fine steps of each of the nodes' intervals. Stages are the nominal intervals, then the tail's own ones.
struct StageGrid {
    const Index* length;
    Index nodes, stages, fine;

    Index shared() const { return 2 * nodes - stages; }
    Index branch(Index stage) const { return stage < nodes ? 0 : 1; }
    Index node(Index stage) const { return stage < nodes ? stage : stage - nodes + shared(); }

    // The stage of an interval of a branch, and the one before it, -1 for now.
    Index stage(Index branch, Index node) const {
        return branch == 0 || node < shared() ? node : nodes + node - shared();
    }
    Index before(Index branch, Index node) const { return node == 0 ? -1 : stage(branch, node - 1); }
};

// work(branch, interval, its first fine step counted through both branches) for every interval, in the order of time.
template <class Work>
void over_intervals(const StageGrid& grid, Work&& work) {
    for (Index branch = 0; branch < 2; ++branch) {
        Index first = branch * grid.fine;
        for (Index node = 0; node < grid.nodes; first += grid.length[node++]) work(branch, node, first);
    }
}

}  // namespace dds
