// SPDX-License-Identifier: Apache-2.0
#include "common/formats/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <set>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "common/formats/atomic_file.h"
#include "common/formats/memory_limit.h"
#include "common/formats/npy.h"
#include "common/formats/safe_path.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace lockstep {

namespace {

// Keys are looked up while parsing: the sorted kind keeps a header of many keys from costing quadratic time.
using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 16 << 20;
constexpr size_t kMaxTensors = 10'000;
constexpr int kMaxDepth = 8;
constexpr const char* kMetadata = "__metadata__";

size_t DTypeBytes(const std::string& dtype) {
  static const std::map<std::string, size_t> kSizes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
      {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4},     {"F64", 8},     {"I64", 8}, {"U64", 8}};
  const auto found = kSizes.find(dtype);
  return found == kSizes.end() ? 0 : found->second;
}

absl::Status Bad(const std::string& name, const std::string& what) {
  return absl::DataLossError(absl::StrCat(name, ": not a valid safetensors file: ", what));
}

// Looks through the header before a tree of it is built: no double names, no deep nesting, no more
// entries than there may be tensors. (The parser's own callback costs quadratic time with many entries.)
class HeaderGuard final : public nlohmann::json_sax<Json> {
 public:
  const std::string& problem() const { return problem_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    keys_.emplace_back();
    return Deeper();
  }
  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) return Fail(absl::StrCat("the name \"", name, "\" appears twice"));
    // One more for the metadata.
    if (keys_.back().size() > kMaxTensors + 1) return Fail("more than 10,000 tensors");
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override { return Deeper(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return Fail("the header is not a JSON object");
  }

 private:
  bool Deeper() { return ++depth_ <= kMaxDepth || Fail("the header is nested too deeply"); }
  bool Fail(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  std::vector<std::set<std::string>> keys_;
  int depth_ = 0;
  std::string problem_;
};

absl::StatusOr<Json> ParseHeader(const char* begin, const char* end, const std::string& name) {
  HeaderGuard guard;
  if (!Json::sax_parse(begin, end, &guard)) return Bad(name, guard.problem());
  Json header = Json::parse(begin, end, nullptr, /*allow_exceptions=*/false);
  if (header.is_discarded() || !header.is_object()) return Bad(name, "the header is not a JSON object");
  return header;
}

struct Extent {
  uint64_t begin;
  uint64_t end;
};

absl::StatusOr<Extent> Offsets(const std::string& tensor_name, const Json& entry, const std::string& name) {
  const auto found = entry.find("data_offsets");
  if (found == entry.end() || !found->is_array() || found->size() != 2 || !(*found)[0].is_number_unsigned() ||
      !(*found)[1].is_number_unsigned()) {
    return Bad(name, absl::StrCat("tensor \"", tensor_name, "\" has no data_offsets [begin, end]"));
  }
  return Extent{(*found)[0].get<uint64_t>(), (*found)[1].get<uint64_t>()};
}

absl::StatusOr<TensorRead> ParseTensor(const std::string& tensor_name, const Json& entry, const Extent& extent,
                                       uint64_t begin_expected, uint64_t data_bytes, const std::string& name) {
  const auto fail = [&](const char* what) { return Bad(name, absl::StrCat("tensor \"", tensor_name, "\": ", what)); };
  TensorRead tensor{.name = tensor_name};
  if (!entry.contains("dtype") || !entry["dtype"].is_string()) return fail("no dtype");
  tensor.dtype = entry["dtype"].get<std::string>();
  const size_t size = DTypeBytes(tensor.dtype);
  if (size == 0) return fail("unknown dtype");
  if (!entry.contains("shape") || !entry["shape"].is_array() || entry["shape"].size() > Shape::kMaxRank) {
    return fail("no shape of at most 8 axes");
  }
  std::vector<int64_t> dims;
  for (const Json& d : entry["shape"]) {
    if (!d.is_number_unsigned() || d.get<uint64_t>() > INT64_MAX) return fail("an axis is not a natural number");
    dims.push_back(d.get<int64_t>());
  }
  const int64_t elements = CheckedElements(dims, INT64_MAX / 8);
  if (elements < 0) return fail("the shape is too large");
  if (extent.begin != begin_expected) return fail("its bytes overlap others or leave a hole");
  if (extent.end < extent.begin || extent.end > data_bytes) return fail("its bytes lie outside the file");
  if (extent.end - extent.begin != static_cast<uint64_t>(elements) * size) {
    return fail("its bytes do not fit its shape");
  }
  tensor.shape = Shape(dims);
  return tensor;
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::vector<const TensorToWrite*> order;
  for (const TensorToWrite& t : tensors) order.push_back(&t);
  std::ranges::sort(order, [](const TensorToWrite* a, const TensorToWrite* b) {
    const size_t wide = DTypeBytes(a->dtype), other = DTypeBytes(b->dtype);
    return wide != other ? wide > other : a->name < b->name;
  });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  uint64_t at = 0;
  for (const TensorToWrite* t : order) {
    if (t->name == kMetadata || header.contains(t->name)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": two tensors would be called \"", t->name, "\""));
    }
    const int64_t elements = CheckedElements(t->shape.dims(), INT64_MAX / 8);
    if (elements < 0 || t->bytes.size() != static_cast<uint64_t>(elements) * DTypeBytes(t->dtype)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": the bytes of tensor \"", t->name, "\" do not fit its shape and type"));
    }
    header[t->name] = {{"dtype", t->dtype},
                       {"shape", std::vector<int64_t>(t->shape.dims().begin(), t->shape.dims().end())},
                       {"data_offsets", {at, at + t->bytes.size()}}};
    at += t->bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint64_t length = text.size();
  std::vector<std::span<const std::byte>> parts;
  parts.push_back(std::as_bytes(std::span(&length, 1)));
  parts.push_back(std::as_bytes(std::span(text)));
  for (const TensorToWrite* t : order) parts.push_back(t->bytes);
  return WriteFileAtomically(path, parts);
}

namespace {

// What the header says, and where each tensor's bytes are among the data.
struct Layout {
  std::map<std::string, std::string> metadata;
  std::vector<TensorRead> tensors;
  std::vector<Extent> extents;
};

absl::Status ReadMetadata(const Json& entry, const std::string& name, Layout& layout) {
  for (const auto& [k, v] : entry.items()) {
    if (!v.is_string()) return Bad(name, "metadata that is not text");
    layout.metadata[k] = v.get<std::string>();
  }
  return absl::OkStatus();
}

// `text`: the header; `data_bytes`: what is behind it.
absl::StatusOr<Layout> ParseLayout(std::string_view text, uint64_t data_bytes, const std::string& name) {
  if (text.empty() || text[0] != '{') return Bad(name, "the header does not start with {");
  LOCKSTEP_ASSIGN_OR_RETURN(const Json header, ParseHeader(text.data(), text.data() + text.size(), name));
  Layout layout;
  std::vector<std::pair<Extent, std::string>> order;
  for (const auto& [key, entry] : header.items()) {
    if (!entry.is_object()) return Bad(name, absl::StrCat("\"", key, "\" is not an object"));
    if (key == kMetadata) {
      LOCKSTEP_RETURN_IF_ERROR(ReadMetadata(entry, name, layout));
      continue;
    }
    if (order.size() >= kMaxTensors) return Bad(name, "more than 10,000 tensors");
    LOCKSTEP_ASSIGN_OR_RETURN(const Extent extent, Offsets(key, entry, name));
    order.push_back({extent, key});
  }
  std::ranges::sort(order, [](const auto& a, const auto& b) {
    return a.first.begin != b.first.begin ? a.first.begin < b.first.begin : a.first.end < b.first.end;
  });
  uint64_t at = 0;
  for (const auto& [extent, key] : order) {
    LOCKSTEP_ASSIGN_OR_RETURN(TensorRead tensor, ParseTensor(key, header[key], extent, at, data_bytes, name));
    at = extent.end;
    layout.tensors.push_back(std::move(tensor));
    layout.extents.push_back(extent);
  }
  if (at != data_bytes) return Bad(name, "bytes after the last tensor");
  return layout;
}

absl::StatusOr<uint64_t> HeaderBytes(std::span<const std::byte> start, uint64_t file_bytes, const std::string& name) {
  uint64_t length = 0;
  if (file_bytes < sizeof(length)) return Bad(name, "shorter than its header's length");
  std::memcpy(&length, start.data(), sizeof(length));
  if (length > kMaxHeaderBytes || length > file_bytes - sizeof(length)) {
    return Bad(name, absl::StrCat("a header of ", length, " bytes does not fit"));
  }
  return length;
}

// Bytes [from, from + to.size()) of the file.
absl::Status ReadExactly(int fd, uint64_t from, std::span<std::byte> to, const std::string& name) {
  const ReadBytesFunction read = ReadFileFrom(fd, name, static_cast<int64_t>(from));
  LOCKSTEP_ASSIGN_OR_RETURN(const size_t got, read(reinterpret_cast<uint8_t*>(to.data()), to.size()));
  return got == to.size() ? absl::OkStatus() : absl::DataLossError(absl::StrCat("cannot read ", name));
}

struct Header {
  Layout layout;
  uint64_t file_bytes = 0;
};

absl::StatusOr<Header> ReadHeader(int fd, const std::string& name) {
  struct stat about {};
  if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": is not a regular file"));
  }
  Header header{.layout = {}, .file_bytes = static_cast<uint64_t>(about.st_size)};
  std::array<std::byte, sizeof(uint64_t)> start{};
  if (header.file_bytes >= start.size()) LOCKSTEP_RETURN_IF_ERROR(ReadExactly(fd, 0, start, name));
  LOCKSTEP_ASSIGN_OR_RETURN(const uint64_t length, HeaderBytes(start, header.file_bytes, name));
  std::string text(length, '\0');
  LOCKSTEP_RETURN_IF_ERROR(ReadExactly(fd, start.size(), std::as_writable_bytes(std::span(text)), name));
  LOCKSTEP_ASSIGN_OR_RETURN(header.layout, ParseLayout(text, header.file_bytes - start.size() - length, name));
  return header;
}

}  // namespace

absl::StatusOr<SafetensorsFile> ReadSafetensors(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::NotFoundError(absl::StrCat("cannot open ", path));
  const File file(fd, path);
  return ReadSafetensors(fd, path);
}

absl::StatusOr<SafetensorsFile> ReadSafetensors(int fd, const std::string& name) {
  // The header first: memory is taken only where it agrees with the file's size.
  LOCKSTEP_ASSIGN_OR_RETURN(const Header header, ReadHeader(fd, name));
  LOCKSTEP_RETURN_IF_ERROR(CheckFitsMemory(static_cast<int64_t>(header.file_bytes), name));
  std::vector<std::byte> bytes(header.file_bytes);
  LOCKSTEP_RETURN_IF_ERROR(ReadExactly(fd, 0, bytes, name));
  return ParseSafetensors(std::move(bytes), name);
}

absl::StatusOr<SafetensorsFile> ReadSafetensorsHeader(int fd, const std::string& name) {
  LOCKSTEP_ASSIGN_OR_RETURN(Header header, ReadHeader(fd, name));
  SafetensorsFile file;
  file.metadata = std::move(header.layout.metadata);
  file.tensors = std::move(header.layout.tensors);
  return file;
}

absl::StatusOr<SafetensorsFile> ParseSafetensors(std::vector<std::byte> bytes, const std::string& name) {
  LOCKSTEP_ASSIGN_OR_RETURN(const uint64_t length, HeaderBytes(bytes, bytes.size(), name));
  const uint64_t header_bytes = sizeof(length) + length;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof(length), length);
  LOCKSTEP_ASSIGN_OR_RETURN(Layout layout, ParseLayout(text, bytes.size() - header_bytes, name));
  SafetensorsFile file{.storage = std::move(bytes), .metadata = std::move(layout.metadata)};
  for (size_t i = 0; i < layout.tensors.size(); ++i) {
    TensorRead& tensor = layout.tensors[i];
    const Extent& extent = layout.extents[i];
    tensor.bytes = std::span(file.storage).subspan(header_bytes + extent.begin, extent.end - extent.begin);
    file.tensors.push_back(std::move(tensor));
  }
  return file;
}

}  // namespace lockstep
