// SPDX-License-Identifier: Apache-2.0
// A rank that has used every kind of shared memory that MPI has, and waits to be killed.
#include <mpi.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  std::vector<float> values(1 << 20, 1.0F);
  MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  MPI_Win window;
  float* memory = nullptr;
  MPI_Win_allocate_shared(1 << 20, sizeof(float), MPI_INFO_NULL, MPI_COMM_WORLD, &memory, &window);
  memory[0] = values[0];
  const char* run_dir = std::getenv("LOCKSTEP_RUN_DIR");
  if (run_dir == nullptr) MPI_Abort(MPI_COMM_WORLD, 1);
  const std::string ready = std::string(run_dir) + "/ready." + std::to_string(rank);
  // Its own id as the whole machine knows it.
  char self[32] = {};
  if (readlink("/proc/self", self, sizeof(self) - 1) < 0) MPI_Abort(MPI_COMM_WORLD, 1);
  std::ofstream(ready + ".tmp") << self << '\n';
  rename((ready + ".tmp").c_str(), ready.c_str());
  while (true) pause();
}
