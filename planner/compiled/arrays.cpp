#include "arrays.hpp"

DDS_EXPORT dds::Index dds_version() { return 3; }
