// SPDX-License-Identifier: Apache-2.0
#include "worker/train/snapshot.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

constexpr uint64_t kMagic = 0x31504e534b434f4cULL;  // "LOCKSNP1"
constexpr size_t kPage = 4096;
constexpr int kSlots = SnapshotWriter::kSlots;

struct Slot {
  // The step plus one; 0: not valid.
  std::atomic<int64_t> valid;
  char digest[32];
};
struct Header {
  uint64_t magic;
  uint64_t payload_bytes;
  Slot slots[kSlots];
};
static_assert(sizeof(Header) <= kPage && std::atomic<int64_t>::is_always_lock_free);

// What the payload is made of, in order, and the trainer's state last.
std::vector<Tensor> Parts(Model& model, Optimizer& optimizer) {
  std::vector<Tensor> parts{model.parameters()};
  for (const auto& [name, tensor] : optimizer.State()) parts.push_back(tensor);
  return parts;
}

size_t PayloadBytes(const std::vector<Tensor>& parts, const TrainerState& trainer) {
  size_t bytes = trainer.packed_size() * sizeof(double);
  for (const Tensor& part : parts) bytes += part.bytes();
  return bytes;
}

size_t RoundUp(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

// A mapping of a whole file; unmapped with the object.
class Mapping {
 public:
  Mapping() = default;
  Mapping(void* data, size_t bytes) : data_(data), bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }
  Header& header() const { return *static_cast<Header*>(data_); }
  std::byte* payload(int slot) const {
    return static_cast<std::byte*>(data_) + kPage + slot * RoundUp(header().payload_bytes);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

class FileSnapshotWriter final : public SnapshotWriter {
 public:
  FileSnapshotWriter(Mapping mapping, Device* device, std::vector<Tensor> parts, size_t trainer_size)
      : mapping_(std::move(mapping)), device_(device), parts_(std::move(parts)), trainer_(trainer_size) {}

  void Write(int index, int64_t step, const TrainerState& trainer) override {
    Slot& slot = mapping_.header().slots[index];
    slot.valid.store(0, std::memory_order_release);
    std::byte* const begin = mapping_.payload(index);
    std::byte* to = begin;
    for (const Tensor& part : parts_) {
      device_->CopyToHost(to, part.data, part.bytes());
      to += part.bytes();
    }
    trainer.Pack(trainer_);
    std::memcpy(to, trainer_.data(), trainer_.size() * sizeof(double));
    const std::string digest = FastDigest({begin, mapping_.header().payload_bytes});
    std::memcpy(slot.digest, digest.data(), sizeof(slot.digest));
    slot.valid.store(step + 1, std::memory_order_release);
  }

 private:
  Mapping mapping_;
  Device* device_;
  std::vector<Tensor> parts_;
  std::vector<double> trainer_;
};

absl::Status Failed(const std::string& path, const char* what, int error) {
  return absl::ResourceExhaustedError(absl::StrCat(path, ": ", what, ": ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SnapshotWriter>> SnapshotWriter::Create(const std::string& path, Device* device,
                                                                       Model* model, Optimizer* optimizer,
                                                                       const TrainerState& trainer) {
  std::vector<Tensor> parts = Parts(*model, *optimizer);
  const size_t payload = PayloadBytes(parts, trainer);
  const size_t bytes = kPage + kSlots * RoundUp(payload);
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return Failed(path, "cannot create", errno);
  // Takes the memory now: later it would be a signal instead of an error.
  const int error = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  void* data = error == 0 ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  const int cause = error != 0 ? error : errno;
  close(fd);
  if (data == MAP_FAILED) {
    unlink(path.c_str());
    return Failed(path, "no shared memory for snapshots", cause);
  }
  Mapping mapping(data, bytes);
  mapping.header().magic = kMagic;
  mapping.header().payload_bytes = payload;
  return std::make_unique<FileSnapshotWriter>(std::move(mapping), device, std::move(parts), trainer.packed_size());
}

absl::Status LoadSnapshot(const std::string& path, int64_t step, Device& device, Model& model, Optimizer& optimizer,
                          TrainerState& trainer) {
  const std::vector<Tensor> parts = Parts(model, optimizer);
  const size_t payload = PayloadBytes(parts, trainer);
  const size_t bytes = kPage + kSlots * RoundUp(payload);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::NotFoundError(absl::StrCat(path, ": cannot open: ", std::strerror(errno)));
  struct stat status {};
  const bool right_size = fstat(fd, &status) == 0 && static_cast<size_t>(status.st_size) == bytes;
  void* data = right_size ? mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
  close(fd);
  if (data == MAP_FAILED) return absl::DataLossError(absl::StrCat(path, ": not a snapshot of this job"));
  const Mapping mapping(data, bytes);
  if (mapping.header().magic != kMagic || mapping.header().payload_bytes != payload) {
    return absl::DataLossError(absl::StrCat(path, ": not a snapshot of this job"));
  }
  for (int i = 0; i < kSlots; ++i) {
    const Slot& slot = mapping.header().slots[i];
    if (slot.valid.load(std::memory_order_acquire) != step + 1) continue;
    const std::byte* from = mapping.payload(i);
    if (FastDigest({from, payload}) != std::string(slot.digest, sizeof(slot.digest))) {
      return absl::DataLossError(absl::StrCat(path, ": the snapshot of step ", step, " is damaged"));
    }
    for (const Tensor& part : parts) {
      if (part.data != nullptr) device.CopyFromHost(part.data, from, part.bytes());
      from += part.bytes();
    }
    std::vector<double> packed(trainer.packed_size());
    std::memcpy(packed.data(), from, packed.size() * sizeof(double));
    return trainer.Unpack(packed);
  }
  return absl::NotFoundError(absl::StrCat(path, ": no whole snapshot of step ", step));
}

}  // namespace lockstep
