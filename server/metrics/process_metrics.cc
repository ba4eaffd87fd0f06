// SPDX-License-Identifier: Apache-2.0
#include "server/metrics/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace lockstep::metrics {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

void Add(std::vector<MetricFamily>& families, const char* name, const char* help, MetricType type, double value) {
  MetricFamily family{name, help, type, {}};
  prometheus::ClientMetric metric;
  if (type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family.metric.push_back(metric);
  families.push_back(std::move(family));
}

// Fields of /proc/self/stat from the third on.
std::vector<double> StatFields() {
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const size_t end = text.rfind(')');
  std::vector<double> fields;
  if (end == std::string::npos || end + 4 > text.size()) return fields;
  std::istringstream rest(text.substr(end + 4));
  double value;
  while (rest >> value) fields.push_back(value);
  return fields;
}

double BootTime() {
  std::ifstream file("/proc/stat");
  std::string word;
  double value = 0;
  while (file >> word) {
    if (word == "btime" && file >> value) return value;
  }
  return 0;
}

int OpenFiles() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  int count = 0;
  while (const dirent* entry = readdir(folder)) count += entry->d_name[0] != '.' ? 1 : 0;
  closedir(folder);
  return count - 1;  // Without the folder's own.
}

}  // namespace

std::vector<MetricFamily> ProcessMetrics::Collect() const {
  std::vector<MetricFamily> families;
  const std::vector<double> fields = StatFields();  // [0] is field 4 of proc(5).
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  if (fields.size() > 20) {
    Add(families, "process_cpu_seconds_total", "User and system CPU time of the coordinator.", MetricType::Counter,
        (fields[10] + fields[11]) / ticks);
    Add(families, "process_start_time_seconds", "When the coordinator started, since the epoch.", MetricType::Gauge,
        BootTime() + fields[18] / ticks);
    Add(families, "process_virtual_memory_bytes", "Virtual memory of the coordinator.", MetricType::Gauge, fields[19]);
    Add(families, "process_resident_memory_bytes", "Resident memory of the coordinator.", MetricType::Gauge,
        fields[20] * static_cast<double>(sysconf(_SC_PAGESIZE)));
  }
  Add(families, "process_open_fds", "Open file descriptors of the coordinator.", MetricType::Gauge, OpenFiles());
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  Add(families, "process_max_fds", "Most file descriptors the coordinator may open.", MetricType::Gauge,
      static_cast<double>(limit.rlim_cur));
  return families;
}

}  // namespace lockstep::metrics
