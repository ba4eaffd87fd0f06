// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/worker/nccl/fake_nccl.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep::nccl {

namespace {

FakeGpus* current = nullptr;

size_t BytesOf(const Operation& o) { return o.count * (o.type == kFloat32 ? sizeof(float) : sizeof(double)); }

std::string TextOf(const Operation& o) {
  const std::string what = absl::StrCat(o.count, o.type == kFloat32 ? " floats" : " doubles");
  switch (o.kind) {
    case Operation::Kind::kSend:
      return absl::StrCat("send ", what, " to ", o.peer);
    case Operation::Kind::kReceive:
      return absl::StrCat("receive ", what, " from ", o.peer);
    case Operation::Kind::kAllGather:
      return absl::StrCat("gather ", what);
    case Operation::Kind::kAllReduce:
      return absl::StrCat(o.op == kMax ? "max " : "sum ", what);
  }
  return "";
}

template <typename T>
void DoAdd(const TreeAdd<T>& add) {
  for (int64_t i = 0; i < add.count; ++i) {
    add.out[i] = AddTree<T>(add.program, [&](int leaf) { return add.leaves[leaf][i]; });
    if (!IsFiniteValue(add.out[i]) && add.not_finite != nullptr) *add.not_finite = 1;
  }
}

template <typename T>
void DoReduce(const std::vector<Operation>& all) {
  std::vector<T> out(all[0].count);
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<const T*>(all[0].from)[i];
    for (size_t r = 1; r < all.size(); ++r) {
      const T value = static_cast<const T*>(all[r].from)[i];
      out[i] = all[0].op == kMax ? std::max(out[i], value) : out[i] + value;
    }
  }
  for (const Operation& o : all) std::ranges::copy(out, static_cast<T*>(o.to));
}

}  // namespace

class FakeGpus::Rank final : public ReduceOps {
 public:
  Rank(FakeGpus* gpus, int number) : gpus_(gpus), number_(number) {}

  Stream stream(Lane lane) const override { return const_cast<LaneQueue*>(&lanes[static_cast<size_t>(lane)]); }
  absl::StatusOr<void*> Allocate(size_t bytes) override {
    if (bytes > gpus_->memory) return absl::ResourceExhaustedError("no memory");
    gpus_->memory -= bytes;
    blocks_.push_back(std::make_unique<std::vector<double>>(bytes / sizeof(double) + 1));
    return blocks_.back()->data();
  }
  absl::StatusOr<void*> AllocateHost(size_t bytes) override { return Allocate(bytes); }
  void Copy(Lane lane, void* to, const void* from, size_t bytes) override {
    Push(lane, "copy", [=] { return bytes == 0 || std::memcpy(to, from, bytes) != nullptr; });
  }
  void Order(Lane first, Lane second) override {
    const int event = ++events_;
    Push(first, "", [this, event] { return reached_[event] = true; });
    Push(second, second == Lane::kReduce ? "reduce waits" : "compute waits", [this, event] { return reached_[event]; });
  }
  void Zero(Lane lane, void* data, size_t bytes) override {
    Push(lane, "zero", [=] { return std::memset(data, 0, bytes) != nullptr; });
  }
  void Add(Lane lane, const TreeAdd<float>& args) override {
    bool aligned = args.count % 4 == 0 && reinterpret_cast<uintptr_t>(args.out) % 16 == 0;
    for (int i = 0; i < args.program.leaves; ++i) {
      aligned = aligned && reinterpret_cast<uintptr_t>(args.leaves[i]) % 16 == 0;
    }
    if (!aligned) gpus_->Mismatch("an addition is not aligned");
    PushAdd(lane, args, "floats");
  }
  void Add(Lane lane, const TreeAdd<double>& args) override { PushAdd(lane, args, "doubles"); }
  void Mark(Lane) override {}
  absl::StatusOr<bool> Reached() override {
    if (gpus_->plays_when_asked) {
      if (absl::Status played = gpus_->Play(); !played.ok()) return played;
    }
    return lanes[0].empty() && lanes[1].empty();
  }

  void Push(Lane lane, const std::string& text, std::function<bool()> deed) {
    if (!text.empty()) log.push_back(text);
    lanes[static_cast<size_t>(lane)].push_back({text, {}, std::move(deed)});
  }

  int number() const { return number_; }
  std::array<LaneQueue, 2> lanes;
  std::vector<std::string> log;

 private:
  template <typename T>
  void PushAdd(Lane lane, const TreeAdd<T>& args, const char* type) {
    const char* name = lane == Lane::kReduce ? "reduce" : "compute";
    Push(lane, absl::StrCat(name, " adds ", args.program.leaves, " x ", args.count, " ", type), [args] {
      DoAdd(args);
      return true;
    });
  }

  FakeGpus* gpus_;
  int number_;
  int events_ = 0;
  std::map<int, bool> reached_;
  std::vector<std::unique_ptr<std::vector<double>>> blocks_;
};

// The functions of the table.
struct FakeCalls {
  static int GetVersion(int* version) { return *version = 22809, kSuccess; }
  static int GetUniqueId(UniqueId* id) { return id->bytes.fill('i'), current->call_result; }
  static int CommInitRankConfig(Comm* comm, int size, UniqueId id, int rank, Config* config) {
    if (config->blocking != 0 || id.bytes[127] != 'i' || size != static_cast<int>(current->ranks_.size())) return 4;
    *comm = current->ranks_[static_cast<size_t>(rank)].get();
    return current->init_result;
  }
  static int CommGetAsyncError(Comm, int* result) {
    *result = current->busy_looks > 0 ? kInProgress : current->async_error;
    if (current->busy_looks > 0) --current->busy_looks;
    return kSuccess;
  }
  static int CommFinalize(Comm) { return kInProgress; }
  static int CommDestroy(Comm) { return ++current->destroyed, kSuccess; }
  static int CommAbort(Comm) {
    if (current->on_abort) current->on_abort();
    return ++current->aborts, kSuccess;
  }
  static const char* GetErrorString(int) { return "an error"; }
  static const char* GetLastError(Comm) { return "more words"; }
  static int GroupStart() { return current->group_.clear(), current->group_lane_ = nullptr, kSuccess; }
  static int GroupEnd() {
    std::vector<std::string> texts;
    std::string text;
    for (const Operation& o : current->group_) absl::StrAppend(&text, text.empty() ? "" : ", ", TextOf(o));
    if (current->group_lane_ != nullptr) {
      current->ranks_[static_cast<size_t>(current->group_rank_)]->log.push_back(text);
      current->group_lane_->push_back({text, std::exchange(current->group_, {}), {}});
    }
    return current->call_result == kSuccess ? kInProgress : current->call_result;
  }
  static int Add(Operation operation, Comm comm, Stream stream) {
    current->group_rank_ = static_cast<FakeGpus::Rank*>(comm)->number();
    current->group_lane_ = static_cast<LaneQueue*>(stream);
    current->group_.push_back(operation);
    return kSuccess;
  }
  static int Send(const void* from, size_t count, int type, int peer, Comm comm, Stream stream) {
    return Add({Operation::Kind::kSend, peer, from, nullptr, count, type, kSum}, comm, stream);
  }
  static int Recv(void* to, size_t count, int type, int peer, Comm comm, Stream stream) {
    return Add({Operation::Kind::kReceive, peer, nullptr, to, count, type, kSum}, comm, stream);
  }
  static int AllGather(const void* from, void* to, size_t count, int type, Comm comm, Stream stream) {
    return Add({Operation::Kind::kAllGather, 0, from, to, count, type, kSum}, comm, stream);
  }
  static int AllReduce(const void* from, void* to, size_t count, int type, int op, Comm comm, Stream stream) {
    return Add({Operation::Kind::kAllReduce, 0, from, to, count, type, op}, comm, stream);
  }
};

const NcclApi& FakeGpus::Api() {
  static const NcclApi api{
      FakeCalls::GetVersion,   FakeCalls::GetUniqueId, FakeCalls::CommInitRankConfig, FakeCalls::CommGetAsyncError,
      FakeCalls::CommFinalize, FakeCalls::CommDestroy, FakeCalls::CommAbort,          FakeCalls::GetErrorString,
      FakeCalls::GetLastError, FakeCalls::GroupStart,  FakeCalls::GroupEnd,           FakeCalls::Send,
      FakeCalls::Recv,         FakeCalls::AllGather,   FakeCalls::AllReduce};
  return api;
}

FakeGpus::FakeGpus(int size) {
  current = this;
  for (int r = 0; r < size; ++r) ranks_.push_back(std::make_unique<Rank>(this, r));
}
FakeGpus::~FakeGpus() { current = nullptr; }

ReduceOps& FakeGpus::ops(int rank) { return *ranks_[static_cast<size_t>(rank)]; }
std::vector<std::string>& FakeGpus::log(int rank) { return ranks_[static_cast<size_t>(rank)]->log; }

void FakeGpus::Enqueue(int rank, Lane lane, const std::string& text, std::function<void()> deed) {
  ranks_[static_cast<size_t>(rank)]->Push(lane, text, [deed = std::move(deed)] {
    deed();
    return true;
  });
}

bool FakeGpus::Mismatch(const std::string& what) {
  mismatch_.Update(absl::InternalError(what));
  return false;
}

bool FakeGpus::PlayDeeds() {
  bool moved = false;
  for (const auto& rank : ranks_) {
    for (LaneQueue& lane : rank->lanes) {
      while (!lane.empty() && lane.front().deed && lane.front().deed()) {
        lane.pop_front();
        moved = true;
      }
    }
  }
  return moved;
}

std::vector<Entry*> FakeGpus::OpenGroups() {
  std::vector<Entry*> open(ranks_.size(), nullptr);
  for (size_t r = 0; r < ranks_.size(); ++r) {
    LaneQueue& lane = ranks_[r]->lanes[static_cast<size_t>(Lane::kReduce)];
    if (!lane.empty() && !lane.front().deed) open[r] = &lane.front();
  }
  return open;
}

// Between two ranks messages match in order.
bool FakeGpus::PlayMessages(const std::vector<Entry*>& open) {
  bool moved = false;
  for (size_t from = 0; from < open.size(); ++from) {
    for (size_t to = 0; to < open.size(); ++to) {
      if (open[from] == nullptr || open[to] == nullptr) continue;
      const auto find = [](Entry* entry, Operation::Kind kind, size_t peer) {
        return std::ranges::find_if(
            entry->group, [&](const Operation& o) { return o.kind == kind && o.peer == static_cast<int>(peer); });
      };
      while (true) {
        const auto send = find(open[from], Operation::Kind::kSend, to);
        const auto receive = find(open[to], Operation::Kind::kReceive, from);
        if (send == open[from]->group.end() || receive == open[to]->group.end()) break;
        if (send->count != receive->count || send->type != receive->type) {
          return Mismatch(absl::StrCat("rank ", from, ": ", TextOf(*send), ", but there: ", TextOf(*receive)));
        }
        std::memcpy(receive->to, send->from, BytesOf(*send));
        open[from]->group.erase(send);
        open[to]->group.erase(find(open[to], Operation::Kind::kReceive, from));
        moved = true;
      }
    }
  }
  return moved;
}

bool FakeGpus::PlayCollectives(const std::vector<Entry*>& open) {
  const auto is_collective = [](const Operation& o) {
    return o.kind == Operation::Kind::kAllGather || o.kind == Operation::Kind::kAllReduce;
  };
  std::vector<Operation> all;
  for (Entry* entry : open) {
    if (entry == nullptr) return false;
    const auto found = std::ranges::find_if(entry->group, is_collective);
    if (found == entry->group.end()) return false;
    all.push_back(*found);
  }
  for (const Operation& o : all) {
    if (TextOf(o) != TextOf(all[0])) return Mismatch(absl::StrCat(TextOf(all[0]), ", but elsewhere: ", TextOf(o)));
  }
  if (all[0].kind == Operation::Kind::kAllReduce) {
    all[0].type == kFloat32 ? DoReduce<float>(all) : DoReduce<double>(all);
  } else {
    const size_t bytes = BytesOf(all[0]);
    for (const Operation& to : all) {
      for (size_t r = 0; r < all.size(); ++r) {
        std::memmove(static_cast<char*>(to.to) + r * bytes, all[r].from, bytes);
      }
    }
  }
  for (Entry* entry : open) entry->group.erase(std::ranges::find_if(entry->group, is_collective));
  return true;
}

absl::Status FakeGpus::Play() {
  while (true) {
    bool moved = PlayDeeds();
    const std::vector<Entry*> open = OpenGroups();
    moved = PlayMessages(open) || moved;
    while (PlayCollectives(open)) moved = true;
    if (!mismatch_.ok()) return mismatch_;
    for (size_t r = 0; r < open.size(); ++r) {
      if (open[r] == nullptr || !open[r]->group.empty()) continue;
      ranks_[r]->lanes[static_cast<size_t>(Lane::kReduce)].pop_front();
      moved = true;
    }
    if (!moved) break;
  }
  std::string left;
  for (const auto& rank : ranks_) {
    for (const LaneQueue& lane : rank->lanes) {
      if (!lane.empty()) absl::StrAppend(&left, "rank ", rank->number(), " hangs at: ", lane.front().text, "; ");
    }
  }
  return left.empty() ? absl::OkStatus() : absl::InternalError(left);
}

}  // namespace lockstep::nccl
