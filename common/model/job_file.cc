// SPDX-License-Identifier: Apache-2.0
// YAML to JobSpec, by the message's own description, so that each fault is reported where it stands.
#include <cmath>
#include <limits>
#include <set>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/model/job_plan.h"
#include "common/model/names.h"
#include "google/protobuf/descriptor.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/yaml.h"

namespace lockstep {

namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kMaxBytes = 1 << 20;
constexpr int kMaxDepth = 32;
constexpr int kMaxNodes = 100'000;

// Looks through the text's events before a tree is built, so that a hostile file costs nothing: no
// aliases (they multiply), bounded depth and size.
class Guard : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { Node(mark, anchor); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { Fail(mark, "aliases (*name) are not allowed"); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, const std::string&) override {
    Node(mark, anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Node(mark, anchor);
    if (++depth_ > kMaxDepth) Fail(mark, "nested too deeply");
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    OnSequenceStart(mark, tag, anchor, style);
  }
  void OnMapEnd() override { --depth_; }

 private:
  void Node(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) Fail(mark, "anchors (&name) are not allowed");
    if (++nodes_ > kMaxNodes) Fail(mark, absl::StrCat("more than ", kMaxNodes, " values"));
  }
  // The parser can only be left by an exception; Parse below catches it.
  [[noreturn]] static void Fail(const YAML::Mark& mark, const std::string& what) {
    throw YAML::ParserException(mark, what);
  }
  int depth_ = 0;
  int nodes_ = 0;
};

class Reader {
 public:
  Reader(const std::string& file, Violations& violations) : file_(file), violations_(violations) {}

  void ReadMessage(const YAML::Node& node, const std::string& path, Message& message) {
    if (node.IsNull() || ReadKind(node, message)) return;
    if (!node.IsMap()) {
      Add(node.Mark(), path,
          absl::StrCat("must be a mapping (name: value), not ", KindOf(node), KindHint(node, message)));
      return;
    }
    const Descriptor& type = *message.GetDescriptor();
    std::set<std::string> seen;
    std::set<const google::protobuf::OneofDescriptor*> oneofs;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) {
        Add(entry.first.Mark(), path, "has a key that is not a name");
        continue;
      }
      const std::string& key = entry.first.Scalar();
      const FieldDescriptor* field = type.FindFieldByName(key);
      if (field == nullptr) field = type.FindFieldByCamelcaseName(key);
      const std::string child = path.empty() ? key.substr(0, 64) : absl::StrCat(path, ".", key.substr(0, 64));
      if (field == nullptr) {
        Add(entry.first.Mark(), child, absl::StrCat("unknown field", Suggest(type, key)));
        continue;
      }
      if (!seen.insert(field->name()).second) {
        Add(entry.first.Mark(), child, "is given twice");
        continue;
      }
      const auto* oneof = field->real_containing_oneof();
      if (oneof != nullptr && !oneofs.insert(oneof).second) {
        Add(entry.first.Mark(), child, absl::StrCat("only one ", oneof->name(), " may be given here"));
        continue;
      }
      ReadField(entry.second, child, *field, message);
    }
  }

 private:
  // A name alone stands for that kind with its defaults: "optimizer: adam", "- flatten".
  static bool ReadKind(const YAML::Node& node, Message& message) {
    const auto* oneof = message.GetDescriptor()->FindOneofByName("kind");
    if (oneof == nullptr || !node.IsScalar()) return false;
    const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(node.Scalar());
    if (field == nullptr || field->containing_oneof() != oneof) return false;
    message.GetReflection()->MutableMessage(&message, field);
    return true;
  }

  static std::string KindOf(const YAML::Node& node) {
    if (node.IsSequence()) return "a list";
    if (node.IsMap()) return "a mapping";
    return absl::StrCat("\"", node.Scalar().substr(0, 64), "\"");
  }

  static std::string KindHint(const YAML::Node& node, const Message& message) {
    const auto* oneof = message.GetDescriptor()->FindOneofByName("kind");
    if (oneof == nullptr || !node.IsScalar()) return "";
    std::vector<std::string> kinds;
    for (int i = 0; i < oneof->field_count(); ++i) kinds.push_back(oneof->field(i)->name());
    return absl::StrCat("; a name alone must be one of ", absl::StrJoin(kinds, ", "), DidYouMean(node.Scalar(), kinds));
  }

  static std::string Suggest(const Descriptor& type, const std::string& key) {
    std::vector<std::string> names;
    for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
    const std::string hint = DidYouMean(key, names);
    if (!hint.empty() || names.empty()) return hint;
    return absl::StrCat("; known here: ", absl::StrJoin(names, ", "));
  }

  void Add(const YAML::Mark& mark, const std::string& path, const std::string& what) {
    violations_.Add(path.empty() ? "job" : path,
                    absl::StrCat(what, " (", file_, ":", mark.line + 1, ":", mark.column + 1, ")"));
  }

  void ReadField(const YAML::Node& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    const Reflection& reflection = *message.GetReflection();
    if (!field.is_repeated()) {
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        ReadMessage(node, path, *reflection.MutableMessage(&message, &field));
      } else if (!node.IsNull()) {
        ReadScalar(node, path, field, message);
      }
      return;
    }
    if (node.IsNull()) return;
    // One number stands for a list of one: "kernel_size: 5". A text does not: it may be a list's mistyped end.
    if (node.IsScalar() && field.cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
      ReadScalar(node, path, field, message);
      return;
    }
    if (!node.IsSequence()) {
      Add(node.Mark(), path, absl::StrCat("must be a list, not ", KindOf(node)));
      return;
    }
    int index = 0;
    for (const YAML::Node& item : node) {
      const std::string child = absl::StrCat(path, "[", index++, "]");
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        ReadMessage(item, child, *reflection.AddMessage(&message, &field));
      } else {
        ReadScalar(item, child, field, message);
      }
    }
  }

  void ReadScalar(const YAML::Node& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    if (!node.IsScalar()) {
      Add(node.Mark(), path, absl::StrCat("must be a single value, not ", KindOf(node)));
      return;
    }
    const Reflection& reflection = *message.GetReflection();
    const std::string& text = node.Scalar();
    const auto wants = [&](const char* what) {
      Add(node.Mark(), path, absl::StrCat("must be ", what, ", not ", KindOf(node)));
    };
    const auto store = [&](auto set, auto add, auto value) {
      if (field.is_repeated()) {
        (reflection.*add)(&message, &field, value);
      } else {
        (reflection.*set)(&message, &field, value);
      }
    };
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32: {
        int32_t value;
        if (!absl::SimpleAtoi(text, &value)) return wants("a whole number");
        return store(&Reflection::SetInt32, &Reflection::AddInt32, value);
      }
      case FieldDescriptor::CPPTYPE_INT64: {
        int64_t value;
        if (!absl::SimpleAtoi(text, &value)) return wants("a whole number");
        return store(&Reflection::SetInt64, &Reflection::AddInt64, value);
      }
      case FieldDescriptor::CPPTYPE_UINT64: {
        uint64_t value;
        if (!absl::SimpleAtoi(text, &value)) return wants("a whole number of at least 0");
        return store(&Reflection::SetUInt64, &Reflection::AddUInt64, value);
      }
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        double value;
        if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) return wants("a finite number");
        return store(&Reflection::SetDouble, &Reflection::AddDouble, value);
      }
      case FieldDescriptor::CPPTYPE_BOOL: {
        const std::string lower = absl::AsciiStrToLower(text);
        if (lower != "true" && lower != "false") return wants("true or false");
        return store(&Reflection::SetBool, &Reflection::AddBool, lower == "true");
      }
      case FieldDescriptor::CPPTYPE_STRING:
        return store(&Reflection::SetString, &Reflection::AddString, text);
      case FieldDescriptor::CPPTYPE_ENUM:
        return ReadEnum(node, path, field, message);
      default:
        return wants("of a type that job files can hold");
    }
  }

  // MISSING_VALUE_POLICY_MEAN, MEAN or mean.
  void ReadEnum(const YAML::Node& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    const EnumDescriptor& type = *field.enum_type();
    // The zero value's name is the prefix and UNSPECIFIED.
    const std::string& zero = type.value(0)->name();
    const std::string prefix = zero.substr(0, zero.size() - std::string("UNSPECIFIED").size());
    const std::string upper = absl::AsciiStrToUpper(node.Scalar());
    const EnumValueDescriptor* value = type.FindValueByName(upper);
    if (value == nullptr) value = type.FindValueByName(prefix + upper);
    if (value != nullptr) {
      message.GetReflection()->SetEnumValue(&message, &field, value->number());
      return;
    }
    std::vector<std::string> names;
    for (int i = 1; i < type.value_count(); ++i) names.push_back(type.value(i)->name().substr(prefix.size()));
    Add(node.Mark(), path,
        absl::StrCat("must be one of ", absl::StrJoin(names, ", "), ", not ", KindOf(node), DidYouMean(upper, names)));
  }

  const std::string& file_;
  Violations& violations_;
};

void Parse(const std::string& text, const std::string& name, v1::JobSpec& spec, Violations& violations) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  Guard guard;
  if (!parser.HandleNextDocument(guard)) {
    violations.Add("job", absl::StrCat("the file is empty (", name, ")"));
    return;
  }
  Guard second;
  if (parser.HandleNextDocument(second)) {
    violations.Add("job", absl::StrCat("a job file holds one document; remove what follows --- (", name, ")"));
    return;
  }
  Reader(name, violations).ReadMessage(YAML::Load(text), "", spec);
}

}  // namespace

v1::JobSpec ParseJobFile(const std::string& text, const std::string& name, Violations& violations) {
  v1::JobSpec spec;
  if (text.size() > kMaxBytes) {
    violations.Add("job", absl::StrCat("the file is larger than 1 MiB (", name, ")"));
    return spec;
  }
  // A NUL byte would make the library guess at another encoding.
  if (!IsUtf8(text) || text.find('\0') != std::string::npos) {
    violations.Add("job", absl::StrCat("the file is not UTF-8 text (", name, ")"));
    return spec;
  }
  // The library reports by exceptions; none leaves this function.
  try {
    Parse(text, name, spec, violations);
  } catch (const YAML::Exception& e) {
    violations.Add(
        "job", absl::StrCat("not valid YAML: ", e.msg, " (", name, ":", e.mark.line + 1, ":", e.mark.column + 1, ")"));
  } catch (const std::exception& e) {
    violations.Add("job", absl::StrCat("cannot be read: ", e.what(), " (", name, ")"));
  }
  return spec;
}

}  // namespace lockstep
