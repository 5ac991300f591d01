// Snapshots as Prometheus metrics. Pure.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

#include "daemon/snapshot.hpp"

namespace opsplit::daemon {

// docs/monitoring.md lists them.
std::vector<prometheus::MetricFamily> metric_families(const Snapshot& snapshot);

// In the text format, version 0.0.4.
std::string metrics_text(const Snapshot& snapshot);

}  // namespace opsplit::daemon
