// SPDX-License-Identifier: Apache-2.0
// The additions on a GPU have the bits of the host's, and NCCL does what nccl_group.h says of it: with one rank, and
// where the other one does not come.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/rng.h"
#include "worker/comm/communicator.h"
#include "worker/comm/nccl/nccl_group.h"
#include "worker/comm/nccl/nccl_reducer.h"
#include "worker/comm/nccl/reduce_ops.h"
#include "worker/comm/tree_reduce.h"
#include "worker/device/device_loader.h"

namespace lockstep::nccl {
namespace {

constexpr int64_t kCount = 100'000;

std::vector<float> Values(int leaf, int64_t count) {
  const RngStream stream{13, RngPurpose::kInit, static_cast<uint64_t>(leaf)};
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = (stream.Uniform(i) - 0.5F) * static_cast<float>(1 << (leaf % 13));
  }
  return values;
}

class GpuNcclTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    auto ops = MakeCudaReduceOps(stream_);
    ASSERT_TRUE(ops.ok()) << ops.status();
    ops_ = std::move(*ops);
  }
  void TearDown() override {
    ops_.reset();
    cudaStreamDestroy(stream_);
  }

  template <typename T>
  T* Put(const std::vector<T>& values) {
    void* to = *ops_->Allocate(values.size() * sizeof(T));
    EXPECT_EQ(cudaMemcpy(to, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
    return static_cast<T*>(to);
  }
  template <typename T>
  std::vector<T> Take(const T* from, int64_t count) {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::vector<T> values(static_cast<size_t>(count));
    EXPECT_EQ(cudaMemcpy(values.data(), from, values.size() * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

  cudaStream_t stream_ = nullptr;
  std::unique_ptr<ReduceOps> ops_;
  SystemClock clock_;
};

TEST_F(GpuNcclTest, TheKernelAddsAsTheHostDoes) {
  for (const auto& [ranks, shards] : {std::pair{2, 2}, {3, 4}, {4, 4}, {5, 8}, {8, 8}, {7, 16}, {16, 16}}) {
    TreeAdd<float> add{.count = kCount};
    std::vector<TreeNode> stack;
    std::vector<std::vector<float>> leaves;
    for (int rank = 0; rank < ranks; ++rank) {
      for (const TreeNode& node : Decompose(OwnedShards(rank, ranks, shards))) {
        stack.push_back(node);
        leaves.push_back(Values(static_cast<int>(leaves.size()), kCount));
        add.leaves[add.program.leaves] = Put(leaves.back());
        uint8_t& merges = add.program.merges[add.program.leaves++];
        while (stack.size() >= 2 && Siblings(stack[stack.size() - 2], stack.back())) {
          stack.pop_back();
          stack.back() = {stack.back().level + 1, stack.back().index / 2};
          ++merges;
        }
      }
    }
    add.out = const_cast<float*>(add.leaves[0]);
    add.not_finite = Put(std::vector<double>{0});
    ops_->Add(Lane::kReduce, add);
    const std::vector<float> sum = Take(add.out, kCount);
    std::vector<float> expected(sum.size());
    for (size_t i = 0; i < sum.size(); ++i) {
      expected[i] = AddTree<float>(add.program, [&](int leaf) { return leaves[static_cast<size_t>(leaf)][i]; });
    }
    EXPECT_EQ(std::memcmp(sum.data(), expected.data(), sum.size() * sizeof(float)), 0) << ranks << " of " << shards;
    EXPECT_EQ(Take(add.not_finite, 1)[0], 0.0);
    // Once there is a NaN it is told.
    leaves[1].back() = std::numeric_limits<float>::quiet_NaN();
    add.leaves[1] = Put(leaves[1]);
    ops_->Add(Lane::kReduce, add);
    EXPECT_EQ(Take(add.not_finite, 1)[0], 1.0);
  }
}

TEST_F(GpuNcclTest, OneRankSumsItsShardsAsTheCpuDoes) {
  for (const int shards : {1, 2, 8, 32}) {
    const auto single = MakeSingleCommunicator();
    auto expected = *TreeReducer::Create(single.get(), shards, kCount, 1);
    auto reducer = *NcclReducer::Create(nullptr, ops_.get(), {.shards = shards, .elements = kCount, .scalars = 1});
    for (int step = 0; step < 2; ++step) {
      for (int shard = 0; shard < shards; ++shard) {
        const std::vector<float> values = Values(shard + step, kCount);
        const double scalar = 0.1 * shard;
        ASSERT_EQ(cudaMemcpyAsync(reducer->shard_gradient(), values.data(), values.size() * sizeof(float),
                                  cudaMemcpyHostToDevice, stream_),
                  cudaSuccess);
        ASSERT_EQ(cudaMemcpyAsync(reducer->shard_scalars(), &scalar, sizeof(scalar), cudaMemcpyHostToDevice, stream_),
                  cudaSuccess);
        ASSERT_TRUE(reducer->CommitShard().ok());
        std::ranges::copy(values, expected->shard_gradient().begin());
        expected->shard_scalars()[0] = scalar;
        expected->CommitShard();
      }
      ASSERT_TRUE(reducer->Finish().ok());
      ASSERT_TRUE(expected->Finish().ok());
      const std::vector<float> sum = Take(reducer->sum(), kCount);
      EXPECT_EQ(std::memcmp(sum.data(), expected->sum().data(), sum.size() * sizeof(float)), 0) << shards << " shards";
      EXPECT_EQ(Take(reducer->scalar_sums(), 1)[0], expected->scalar_sums()[0]);
      if (shards > 1) {
        EXPECT_EQ(Take(reducer->not_finite(), 1)[0], 0.0);
      }
    }
  }
}

TEST_F(GpuNcclTest, AGroupOfOneDoesWhatIsAskedOfNccl) {
  const auto api = LoadNccl(CudaFoldersFirst(), CudaFoldersLast());
  ASSERT_TRUE(api.ok()) << api.status();
  const auto id = NcclGroup::MakeId(**api);
  ASSERT_TRUE(id.ok()) << id.status();
  auto group =
      NcclGroup::Join(*api, *id, {.rank = 0, .size = 1, .timeout = std::chrono::seconds(60), .clock = &clock_});
  ASSERT_TRUE(group.ok()) << group.status();
  const std::vector<float> values = Values(3, kCount);
  float* const from = Put(values);
  float* const sent = Put(std::vector<float>(values.size()));
  float* const gathered = Put(std::vector<float>(values.size()));
  float* const summed = Put(std::vector<float>(values.size()));
  const absl::Status enqueued = (*group)->Enqueue("to send to itself", [&](Comm comm) {
    const Stream stream = ops_->stream(Lane::kReduce);
    int result = (*api)->Send(from, values.size(), kFloat32, 0, comm, stream);
    if (result == kSuccess) result = (*api)->Recv(sent, values.size(), kFloat32, 0, comm, stream);
    if (result == kSuccess) result = (*api)->AllGather(from, gathered, values.size(), kFloat32, comm, stream);
    if (result == kSuccess) result = (*api)->AllReduce(from, summed, values.size(), kFloat32, kSum, comm, stream);
    return result;
  });
  ASSERT_TRUE(enqueued.ok()) << enqueued;
  ops_->Mark(Lane::kReduce);
  const absl::Status done = (*group)->Await("to send to itself", [&] { return ops_->Reached(); });
  ASSERT_TRUE(done.ok()) << done;
  EXPECT_EQ(Take(sent, kCount), values);
  EXPECT_EQ(Take(gathered, kCount), values);
  EXPECT_EQ(Take(summed, kCount), values);
  EXPECT_TRUE((*group)->Close().ok());
}

// As in a recorded step: forks from the compute lane, meets NCCL there, and comes back.
TEST_F(GpuNcclTest, AGroupOfOneIsRecorded) {
  const auto api = LoadNccl(CudaFoldersFirst(), CudaFoldersLast());
  ASSERT_TRUE(api.ok()) << api.status();
  auto group = NcclGroup::Join(*api, *NcclGroup::MakeId(**api),
                               {.rank = 0, .size = 1, .timeout = std::chrono::seconds(60), .clock = &clock_});
  ASSERT_TRUE(group.ok()) << group.status();
  const std::vector<float> values = Values(5, kCount);
  float* const from = Put(values);
  float* const to = Put(std::vector<float>(values.size()));
  const auto step = [&] {
    ops_->Order(Lane::kCompute, Lane::kReduce);
    const absl::Status enqueued = (*group)->Enqueue("to send to itself", [&](Comm comm) {
      const Stream stream = ops_->stream(Lane::kReduce);
      const int result = (*api)->Send(from, values.size(), kFloat32, 0, comm, stream);
      return result == kSuccess ? (*api)->Recv(to, values.size(), kFloat32, 0, comm, stream) : result;
    });
    EXPECT_TRUE(enqueued.ok()) << enqueued;
    ops_->Order(Lane::kReduce, Lane::kCompute);
  };
  // The first one makes connections.
  step();
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), cudaSuccess);
  step();
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  for (int run = 0; run < 3; ++run) {
    ASSERT_EQ(cudaMemsetAsync(to, 0, values.size() * sizeof(float), stream_), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
    EXPECT_EQ(Take(to, kCount), values) << run;
  }
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_TRUE((*group)->Close().ok());
}

TEST_F(GpuNcclTest, ARankThatDoesNotComeIsNotAwaitedForEver) {
  const auto api = LoadNccl(CudaFoldersFirst(), CudaFoldersLast());
  ASSERT_TRUE(api.ok()) << api.status();
  const auto began = clock_.Now();
  const auto group = NcclGroup::Join(*api, *NcclGroup::MakeId(**api),
                                     {.rank = 0, .size = 2, .timeout = std::chrono::seconds(2), .clock = &clock_});
  EXPECT_EQ(group.status().code(), absl::StatusCode::kDeadlineExceeded) << group.status();
  EXPECT_LT(clock_.Now() - began, std::chrono::seconds(30));
}

}  // namespace
}  // namespace lockstep::nccl
