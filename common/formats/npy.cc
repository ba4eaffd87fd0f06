// SPDX-License-Identifier: Apache-2.0
#include "common/formats/npy.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

constexpr absl::string_view kMagic = "\x93NUMPY";
// Only arrays of records need more, and those are not read.
constexpr size_t kMaxHeaderBytes = 1 << 16;
constexpr size_t kMaxShown = 64;

struct TypeRow {
  NpyType type;
  absl::string_view code;
  const char* name;
  size_t bytes;
};

constexpr std::array<TypeRow, 11> kTypes = {{{NpyType::kBool, "b1", "bool", 1},
                                             {NpyType::kI8, "i1", "int8", 1},
                                             {NpyType::kI16, "i2", "int16", 2},
                                             {NpyType::kI32, "i4", "int32", 4},
                                             {NpyType::kI64, "i8", "int64", 8},
                                             {NpyType::kU8, "u1", "uint8", 1},
                                             {NpyType::kU16, "u2", "uint16", 2},
                                             {NpyType::kU32, "u4", "uint32", 4},
                                             {NpyType::kU64, "u8", "uint64", 8},
                                             {NpyType::kF32, "f4", "float32", 4},
                                             {NpyType::kF64, "f8", "float64", 8}}};

const TypeRow& RowOf(NpyType type) { return kTypes[static_cast<size_t>(type)]; }

absl::Status Bad(const std::string& name, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": not a .npy array that can be read: ", what));
}

// The header's text: a dictionary with three keys in any order.
class HeaderParser {
 public:
  HeaderParser(absl::string_view text, const std::string& name) : text_(text), name_(name) {}

  absl::Status Parse(NpyHeader& header) {
    LOCKSTEP_RETURN_IF_ERROR(Expect('{'));
    while (Peek() != '}') {
      LOCKSTEP_ASSIGN_OR_RETURN(const absl::string_view key, Quoted());
      LOCKSTEP_RETURN_IF_ERROR(Expect(':'));
      LOCKSTEP_RETURN_IF_ERROR(Value(key, header));
      if (Peek() != '}') LOCKSTEP_RETURN_IF_ERROR(Expect(','));
    }
    ++at_;
    if (Peek() != '\0' || at_ < text_.size()) return Wrong("text behind the dictionary");
    if (!type_ || !order_ || !shape_) return Wrong("not all of descr, fortran_order and shape are there");
    if (fortran_ && header.shape.rank() > 1) {
      return Bad(name_, "the array is in Fortran order; save numpy.ascontiguousarray(array)");
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Wrong(const std::string& what) const {
    return Bad(name_, absl::StrCat("its header is wrong at byte ", at_, ": ", what));
  }

  // The next character that is no blank; NUL at the end.
  char Peek() {
    while (at_ < text_.size() && absl::ascii_isspace(text_[at_])) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  absl::Status Expect(char c) {
    if (Peek() != c) return Wrong(absl::StrCat("expected ", absl::string_view(&c, 1)));
    ++at_;
    return absl::OkStatus();
  }

  absl::StatusOr<absl::string_view> Quoted() {
    const char quote = Peek();
    if (quote != '\'' && quote != '"') return Wrong("expected text in quotes");
    const size_t end = text_.find(quote, at_ + 1);
    if (end == absl::string_view::npos) return Wrong("a quote is never closed");
    const absl::string_view inside = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return inside;
  }

  absl::Status Value(absl::string_view key, NpyHeader& header) {
    if (key == "descr" && !std::exchange(type_, true)) return Type(header);
    if (key == "fortran_order" && !std::exchange(order_, true)) return Order();
    if (key == "shape" && !std::exchange(shape_, true)) return Axes(header);
    return Wrong(absl::StrCat("the key \"", key.substr(0, kMaxShown), "\" is unknown or given twice"));
  }

  absl::Status Type(NpyHeader& header) {
    if (Peek() == '[' || Peek() == '(') return Bad(name_, "it holds records; save one plain array for each field");
    LOCKSTEP_ASSIGN_OR_RETURN(const absl::string_view descr, Quoted());
    if (descr.size() == 3) {
      const auto row = std::ranges::find(kTypes, descr.substr(1), &TypeRow::code);
      // Of a single byte the order says nothing.
      const absl::string_view orders = descr[2] == '1' ? "|<>=" : "<=";
      if (row != kTypes.end() && orders.find(descr[0]) != absl::string_view::npos) {
        header.dtype = row->type;
        return absl::OkStatus();
      }
    }
    return Bad(name_, absl::StrCat("its type is \"", absl::CHexEscape(descr.substr(0, kMaxShown)),
                                   "\"; convert it to a little-endian number, for example astype('<f4')"));
  }

  absl::Status Order() {
    Peek();
    for (const auto& [word, value] : {std::pair{"False", false}, std::pair{"True", true}}) {
      if (!absl::StartsWith(text_.substr(at_), word)) continue;
      fortran_ = value;
      at_ += absl::string_view(word).size();
      return absl::OkStatus();
    }
    return Wrong("expected True or False");
  }

  absl::Status Axes(NpyHeader& header) {
    LOCKSTEP_RETURN_IF_ERROR(Expect('('));
    std::vector<int64_t> dims, at_least_one;
    while (Peek() != ')') {
      const size_t begin = at_;
      while (at_ < text_.size() && absl::ascii_isdigit(text_[at_])) ++at_;
      int64_t axis = 0;
      if (!absl::SimpleAtoi(text_.substr(begin, at_ - begin), &axis)) return Wrong("expected the length of an axis");
      // Python 2 wrote its long numbers so.
      if (Peek() == 'L') ++at_;
      if (dims.size() >= Shape::kMaxRank) return Wrong(absl::StrCat("more than ", Shape::kMaxRank, " axes"));
      dims.push_back(axis);
      at_least_one.push_back(std::max<int64_t>(axis, 1));
      if (Peek() != ')') LOCKSTEP_RETURN_IF_ERROR(Expect(','));
    }
    ++at_;
    if (CheckedElements(at_least_one, std::numeric_limits<int64_t>::max() / 16) < 0) {
      return Bad(name_, "its header promises more values than can be counted");
    }
    header.shape = Shape(dims);
    return absl::OkStatus();
  }

  const absl::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
  bool type_ = false, order_ = false, shape_ = false;
  bool fortran_ = false;
};

absl::Status Truncated(const std::string& name, int64_t expected, int64_t got) {
  return absl::DataLossError(
      absl::StrCat(name, ": truncated: the header promises ", expected, " bytes, the file has ", got));
}

}  // namespace

size_t SizeOf(NpyType type) { return RowOf(type).bytes; }
const char* NameOf(NpyType type) { return RowOf(type).name; }
bool IsInteger(NpyType type) { return type != NpyType::kF32 && type != NpyType::kF64; }

absl::StatusOr<NpyHeader> ParseNpyHeader(const ReadBytesFunction& read, const std::string& name) {
  uint8_t head[12];
  // Version 1 has a length of two bytes, later ones of four.
  LOCKSTEP_ASSIGN_OR_RETURN(size_t got, read(head, 10));
  if (absl::string_view(reinterpret_cast<const char*>(head), std::min(got, kMagic.size())) !=
      kMagic.substr(0, std::min(got, kMagic.size()))) {
    return Bad(name, "it does not start with \\x93NUMPY");
  }
  if (got < 10) return Truncated(name, 10, static_cast<int64_t>(got));
  const int version = head[6];
  if (version < 1 || version > 3) return Bad(name, absl::StrCat("its version is ", version, "; known are 1 to 3"));
  size_t begin = 10;
  size_t length = size_t{head[8]} | size_t{head[9]} << 8;
  if (version > 1) {
    LOCKSTEP_ASSIGN_OR_RETURN(got, read(head + 10, 2));
    if (got < 2) return Truncated(name, 12, static_cast<int64_t>(10 + got));
    begin = 12;
    length |= size_t{head[10]} << 16 | size_t{head[11]} << 24;
  }
  if (length > kMaxHeaderBytes) return Bad(name, absl::StrCat("a header of ", length, " bytes is too long"));
  std::string text(length, '\0');
  LOCKSTEP_ASSIGN_OR_RETURN(got, read(reinterpret_cast<uint8_t*>(text.data()), length));
  if (got < length) return Truncated(name, static_cast<int64_t>(begin + length), static_cast<int64_t>(begin + got));
  NpyHeader header;
  header.data_offset = static_cast<int64_t>(begin + length);
  LOCKSTEP_RETURN_IF_ERROR(HeaderParser(text, name).Parse(header));
  return header;
}

ReadBytesFunction ReadFileFrom(int fd, const std::string& name, int64_t offset) {
  return [fd, &name, at = offset](uint8_t* to, size_t bytes) mutable -> absl::StatusOr<size_t> {
    size_t done = 0;
    while (done < bytes) {
      const ssize_t got = pread(fd, to + done, bytes - done, at);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return absl::DataLossError(absl::StrCat(name, ": cannot be read: ", std::strerror(errno)));
      if (got == 0) break;
      done += static_cast<size_t>(got);
      at += got;
    }
    return done;
  };
}

absl::StatusOr<NpyHeader> ReadNpyHeader(int fd, const std::string& name) {
  LOCKSTEP_ASSIGN_OR_RETURN(NpyHeader header, ParseNpyHeader(ReadFileFrom(fd, name, 0), name));
  struct stat info {};
  if (fstat(fd, &info) != 0) return absl::DataLossError(absl::StrCat(name, ": ", std::strerror(errno)));
  const int64_t expected = header.data_offset + header.data_bytes();
  if (info.st_size < expected) return Truncated(name, expected, info.st_size);
  if (info.st_size > expected) {
    return absl::DataLossError(absl::StrCat(name, ": ", info.st_size - expected, " bytes too many after the values"));
  }
  return header;
}

}  // namespace lockstep
