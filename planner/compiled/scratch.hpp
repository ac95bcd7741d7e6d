// Working memory of one row of a stage: arrays cut from one allocation.
#pragma once

#include <cstdint>
#include <vector>

namespace dds {

class Scratch {
  public:
    // Room for so many doubles, all zero.
    explicit Scratch(std::int64_t room) : values_(room, 0.0) {}

    // The next array of that length; more than the room is the caller's fault.
    double* take(std::int64_t length) {
        double* begin = values_.data() + used_;
        used_ += length;
        return begin;
    }

  private:
    std::vector<double> values_;
    std::int64_t used_ = 0;
};

}  // namespace dds
