// SPDX-License-Identifier: Apache-2.0
#include "worker/infer/sample_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/formats/array_reader.h"
#include "common/formats/cifar.h"
#include "common/formats/idx.h"
#include "common/formats/memory_limit.h"
#include "common/formats/safe_path.h"
#include "common/model/csv_dataset.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

absl::StatusOr<File> OpenFile(const std::string& path) {
  // Not to wait for a writer where it is a FIFO.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::NotFoundError(absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  File file(fd, path);
  struct stat about {};
  if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is not a regular file"));
  }
  return file;
}

// "file.npz:x" as file and array, where there is no file of the whole name.
std::pair<std::string, std::string> SplitMember(const std::string& path) {
  const size_t colon = path.rfind(':');
  if (colon == std::string::npos || access(path.c_str(), F_OK) == 0) return {path, ""};
  return {path.substr(0, colon), path.substr(colon + 1)};
}

std::string FirstBytes(int fd) {
  std::array<char, 8> bytes{};
  const ssize_t size = pread(fd, bytes.data(), bytes.size(), 0);
  return {bytes.data(), static_cast<size_t>(std::max<ssize_t>(0, size))};
}

bool IsArray(std::string_view start) { return start.starts_with("\x93NUMPY") || start.starts_with("PK"); }
bool IsIdx(std::string_view start) {
  using std::string_view_literals::operator""sv;
  return start.starts_with("\x1f\x8b"sv) || start.starts_with("\0\0\x08"sv);
}

// A file's axes are [samples, sample...].
absl::Status CheckShape(const Shape& file, const std::string& path, const TrainedModel& model) {
  if (file.rank() > 0 && Shape(file.dims().subspan(1)) == model.plan.input) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": has the shape ", file.ToString(),
                                                 "; the model takes samples of the shape ", model.plan.input.ToString(),
                                                 ", one behind the other"));
}

absl::Status NeedsTable(const std::string& path) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": the model was trained on a table; give a CSV file with its columns"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SampleFile>> SampleFile::Open(const TrainedModel& model, const std::string& given) {
  const auto [path, member] = SplitMember(given);
  LOCKSTEP_ASSIGN_OR_RETURN(const File file, OpenFile(path));
  const std::string start = FirstBytes(file.fd());
  const bool array = IsArray(start), idx = IsIdx(start), cifar = absl::EndsWith(path, ".bin");
  auto samples = std::make_unique<SampleFile>();
  if ((array || idx || cifar) && model.preprocessing.table.has_value()) return NeedsTable(path);
  absl::Status status;
  if (array) {
    status = samples->ReadArray(file.fd(), path, member, model);
  } else if (idx) {
    status = samples->ReadIdxFile(file.fd(), path, model);
  } else if (cifar) {
    status = samples->ReadCifarFile(file.fd(), path, model);
  } else {
    status = samples->ReadTable(file.fd(), path, model, false);
  }
  if (!status.ok()) return status;
  return samples;
}

absl::StatusOr<std::unique_ptr<SampleFile>> SampleFile::OpenTable(const TrainedModel& model, const std::string& path,
                                                                  bool with_targets) {
  LOCKSTEP_ASSIGN_OR_RETURN(const File file, OpenFile(path));
  auto samples = std::make_unique<SampleFile>();
  LOCKSTEP_RETURN_IF_ERROR(samples->ReadTable(file.fd(), path, model, with_targets));
  return samples;
}

void SampleFile::Describe(const TrainedModel& model, Tensor features, int64_t samples) {
  table_.features = features;
  table_.scale = static_cast<float>(model.preprocessing.scale);
  table_.offset = static_cast<float>(model.preprocessing.offset);
  table_.samples = samples;
  if (labels_.empty()) labels_.resize(static_cast<size_t>(samples));
  table_.targets = {labels_.data(), Shape{samples}, DType::kI32};
}

absl::Status SampleFile::ReadTable(int fd, const std::string& path, const TrainedModel& model, bool with_targets) {
  if (!model.preprocessing.table.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        ": is none of .npy, .npz, IDX and CIFAR's .bin, and the model was not trained on a table; it takes "
        "samples of the shape ",
        model.plan.input.ToString()));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(CsvPart part, ApplyPreprocessing(fd, path, *model.preprocessing.table, with_targets));
  floats_ = std::move(part.features);
  targets_ = std::move(part.targets);
  labels_ = std::move(part.labels);
  const int64_t width = model.plan.input.elements();
  if (static_cast<int64_t>(floats_.size()) != part.rows * width) {
    return absl::DataLossError(
        absl::StrCat(model.path, ": what it says of its columns does not make the ", width, " numbers that it takes"));
  }
  Describe(model, {floats_.data(), Shape{part.rows, width}, DType::kF32}, part.rows);
  if (!targets_.empty()) {
    const int64_t outputs = static_cast<int64_t>(targets_.size()) / std::max<int64_t>(1, part.rows);
    table_.targets = {targets_.data(), Shape{part.rows, outputs}, DType::kF32};
  }
  return absl::OkStatus();
}

absl::Status SampleFile::ReadIdxFile(int fd, const std::string& path, const TrainedModel& model) {
  LOCKSTEP_ASSIGN_OR_RETURN(IdxData data, ReadIdx(fd, path));
  LOCKSTEP_RETURN_IF_ERROR(CheckShape(data.shape, path, model));
  bytes_ = std::move(data.values);
  const int64_t samples = data.shape[0];
  Describe(model, {bytes_.data(), Shape{samples, model.plan.input.elements()}, DType::kU8}, samples);
  return absl::OkStatus();
}

absl::Status SampleFile::ReadArray(int fd, const std::string& path, const std::string& member,
                                   const TrainedModel& model) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<ArrayReader> reader, ArrayReader::Open(fd, path, member));
  const Shape& shape = reader->header().shape;
  LOCKSTEP_RETURN_IF_ERROR(CheckShape(shape, reader->name(), model));
  const int64_t samples = shape[0], width = model.plan.input.elements();
  if (samples > kMaxTensorElements) {
    return absl::ResourceExhaustedError(absl::StrCat(reader->name(), ": ", samples, " samples are too many"));
  }
  const int64_t elements = shape.elements();
  LOCKSTEP_RETURN_IF_ERROR(CheckFitsMemory(elements * static_cast<int64_t>(sizeof(float)), reader->name()));
  floats_.resize(static_cast<size_t>(elements));
  LOCKSTEP_RETURN_IF_ERROR(reader->ReadFloats(floats_.data(), elements));
  LOCKSTEP_RETURN_IF_ERROR(reader->Finish());
  Describe(model, {floats_.data(), Shape{samples, width}, DType::kF32}, samples);
  return absl::OkStatus();
}

// CIFAR-10's records and CIFAR-100's differ in their length; a file that could be both is taken for the former.
absl::Status SampleFile::ReadCifarFile(int fd, const std::string& path, const TrainedModel& model) {
  CifarLayout layout = kCifar10;
  absl::StatusOr<int64_t> records = CountCifarRecords(fd, path, layout);
  if (!records.ok()) {
    layout = kCifar100Fine;
    records = CountCifarRecords(fd, path, layout);
  }
  if (!records.ok()) return records.status();
  LOCKSTEP_RETURN_IF_ERROR(CheckShape(Shape{*records, kCifarChannels, kCifarSide, kCifarSide}, path, model));
  bytes_.resize(static_cast<size_t>(*records * kCifarImageBytes));
  // What the labels are does not matter.
  std::vector<int32_t> labels;
  layout.classes = 256;
  LOCKSTEP_RETURN_IF_ERROR(ReadCifar(fd, path, layout, bytes_.data(), &labels));
  Describe(model, {bytes_.data(), Shape{*records, kCifarImageBytes}, DType::kU8}, *records);
  return absl::OkStatus();
}

}  // namespace lockstep
