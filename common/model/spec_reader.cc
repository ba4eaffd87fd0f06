// SPDX-License-Identifier: Apache-2.0
#include "common/model/spec_reader.h"

#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/model/text.h"
#include "google/protobuf/descriptor.h"

namespace lockstep {

namespace {

namespace pb = google::protobuf;
using Field = pb::FieldDescriptor;

// Integers may be written "1e6" and 5.0 too, as the protobuf JSON mapping allows.
template <typename T>
std::optional<T> ParseInteger(const std::string& text) {
  T value;
  if (absl::SimpleAtoi(text, &value)) return value;
  double number = 0;
  if (!absl::SimpleAtod(text, &number) || std::floor(number) != number || std::abs(number) > 9007199254740992.0) {
    return std::nullopt;
  }
  if (number < static_cast<double>(std::numeric_limits<T>::min()) ||
      number > static_cast<double>(std::numeric_limits<T>::max())) {
    return std::nullopt;
  }
  return static_cast<T>(number);
}

std::optional<double> ParseDouble(std::string text) {
  for (const char* spelling : {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"}) {
    if (absl::EndsWith(text, spelling) && text.size() <= 5) text.erase(text.find('.'), 1);
  }
  double value = 0;
  if (!absl::SimpleAtod(text, &value)) return std::nullopt;
  return value;
}

std::optional<bool> ParseBool(const YamlNode& node) {
  if (node.quoted) return std::nullopt;
  if (node.text == "true" || node.text == "True" || node.text == "TRUE") return true;
  if (node.text == "false" || node.text == "False" || node.text == "FALSE") return false;
  return std::nullopt;
}

// "MISSING_VALUE_POLICY_" of MISSING_VALUE_POLICY_UNSPECIFIED.
absl::string_view EnumPrefix(const pb::EnumDescriptor* type) {
  return absl::StripSuffix(type->value(0)->name(), "UNSPECIFIED");
}

const pb::EnumValueDescriptor* FindEnumValue(const pb::EnumDescriptor* type, const std::string& text) {
  const std::string upper = absl::AsciiStrToUpper(text);
  if (const auto* value = type->FindValueByName(upper)) return value;
  if (const auto* value = type->FindValueByName(absl::StrCat(EnumPrefix(type), upper))) return value;
  int number = 0;
  return absl::SimpleAtoi(text, &number) ? type->FindValueByNumber(number) : nullptr;
}

class Reader {
 public:
  Reader(const std::string& name, Violations& violations) : name_(name), violations_(violations) {}

  void ReadFields(const YamlNode& node, const std::string& path, pb::Message& message) {
    if (node.kind == YamlNode::Kind::kNull) return;
    if (node.kind != YamlNode::Kind::kMap) {
      std::string hint;
      if (node.kind == YamlNode::Kind::kScalar && message.GetDescriptor()->FindFieldByName(node.text) != nullptr) {
        hint = absl::StrCat("; write \"", node.text, ": {}\"");
      }
      Add(node, path, absl::StrCat("must be a map of fields, not ", node.KindName(), hint));
      return;
    }
    std::set<const Field*> seen;
    // The first field of each oneof.
    std::map<const pb::OneofDescriptor*, const Field*> chosen;
    for (const YamlNode::Entry& entry : node.entries) {
      const Field* field = FindField(entry.key, path, message.GetDescriptor());
      if (field == nullptr) continue;
      const std::string field_path = Join(path, field->name());
      if (!seen.insert(field).second) {
        Add(entry.key, field_path, "is given twice");
        continue;
      }
      if (const pb::OneofDescriptor* oneof = field->real_containing_oneof();
          oneof != nullptr &&
          (field->cpp_type() == Field::CPPTYPE_MESSAGE || entry.value.kind != YamlNode::Kind::kNull)) {
        const auto [first, fresh] = chosen.insert({oneof, field});
        if (!fresh) {
          Add(entry.key, field_path,
              absl::StrCat("excludes \"", first->second->name(), "\" beside it; keep one of them"));
          continue;
        }
      }
      ReadField(entry.value, field_path, field, message);
    }
  }

 private:
  static std::string Join(const std::string& path, const std::string& name) {
    return path.empty() ? name : absl::StrCat(path, ".", name);
  }

  void Add(const YamlNode& node, const std::string& path, const std::string& what) {
    violations_.Add(path, absl::StrCat(name_, ":", node.line, ":", node.column, ": ", what));
  }

  const Field* FindField(const YamlNode& key, const std::string& path, const pb::Descriptor* type) {
    if (key.kind != YamlNode::Kind::kScalar) {
      Add(key, path, absl::StrCat("a field's name must be a word, not ", key.KindName()));
      return nullptr;
    }
    if (const Field* field = type->FindFieldByName(key.text)) return field;
    if (const Field* field = type->FindFieldByCamelcaseName(key.text)) return field;
    std::vector<std::string> known;
    for (int i = 0; i < type->field_count(); ++i) known.push_back(type->field(i)->name());
    const std::string choice =
        known.empty() ? "; it has no fields" : absl::StrCat("; the fields here are ", absl::StrJoin(known, ", "));
    Add(key, Join(path, key.text.substr(0, 60)),
        absl::StrCat("unknown field ", Quoted(key.text), DidYouMean(key.text, known), choice));
    return nullptr;
  }

  void ReadField(const YamlNode& node, const std::string& path, const Field* field, pb::Message& message) {
    const pb::Reflection* reflection = message.GetReflection();
    if (field->is_repeated()) {
      if (node.kind == YamlNode::Kind::kNull) return;
      if (node.kind != YamlNode::Kind::kSequence) {
        Add(node, path, absl::StrCat("must be a list, not ", node.KindName()));
        return;
      }
      for (size_t i = 0; i < node.items.size(); ++i) {
        const std::string item_path = absl::StrCat(path, "[", i, "]");
        if (field->cpp_type() == Field::CPPTYPE_MESSAGE) {
          ReadFields(node.items[i], item_path, *reflection->AddMessage(&message, field));
        } else {
          ReadScalar(node.items[i], item_path, field, message);
        }
      }
    } else if (field->cpp_type() == Field::CPPTYPE_MESSAGE) {
      ReadFields(node, path, *reflection->MutableMessage(&message, field));
    } else if (node.kind != YamlNode::Kind::kNull) {
      ReadScalar(node, path, field, message);
    }
  }

  void ReadScalar(const YamlNode& node, const std::string& path, const Field* field, pb::Message& message) {
    const auto mistyped = [&](const std::string& wanted) {
      const std::string got = node.kind == YamlNode::Kind::kScalar ? Quoted(node.text) : node.KindName();
      Add(node, path, absl::StrCat("must be ", wanted, ", not ", got));
    };
    const bool scalar = node.kind == YamlNode::Kind::kScalar;
    switch (field->cpp_type()) {
      case Field::CPPTYPE_INT32:
        return Set(scalar ? ParseInteger<int32_t>(node.text) : std::nullopt, "a whole number of 32 bits", mistyped,
                   &pb::Reflection::SetInt32, &pb::Reflection::AddInt32, field, message);
      case Field::CPPTYPE_INT64:
        return Set(scalar ? ParseInteger<int64_t>(node.text) : std::nullopt, "a whole number of 64 bits", mistyped,
                   &pb::Reflection::SetInt64, &pb::Reflection::AddInt64, field, message);
      case Field::CPPTYPE_UINT64:
        return Set(scalar ? ParseInteger<uint64_t>(node.text) : std::nullopt, "a whole number from 0 to 2^64 - 1",
                   mistyped, &pb::Reflection::SetUInt64, &pb::Reflection::AddUInt64, field, message);
      case Field::CPPTYPE_DOUBLE:
        return Set(scalar ? ParseDouble(node.text) : std::nullopt, "a number", mistyped, &pb::Reflection::SetDouble,
                   &pb::Reflection::AddDouble, field, message);
      case Field::CPPTYPE_BOOL:
        return Set(scalar ? ParseBool(node) : std::nullopt, "true or false", mistyped, &pb::Reflection::SetBool,
                   &pb::Reflection::AddBool, field, message);
      case Field::CPPTYPE_ENUM:
        return ReadEnum(node, path, field, message);
      case Field::CPPTYPE_STRING:
        if (!scalar || ParseBool(node).has_value() || !IsUtf8(node.text)) return mistyped("a text");
        if (field->is_repeated()) return message.GetReflection()->AddString(&message, field, node.text);
        return message.GetReflection()->SetString(&message, field, node.text);
      default:
        return mistyped("of a type that job files can hold");
    }
  }

  template <typename T, typename Mistyped, typename SetFunction, typename AddFunction>
  static void Set(std::optional<T> value, const std::string& wanted, const Mistyped& mistyped, SetFunction set,
                  AddFunction add, const Field* field, pb::Message& message) {
    if (!value.has_value()) return mistyped(wanted);
    (message.GetReflection()->*(field->is_repeated() ? add : set))(&message, field, *value);
  }

  void ReadEnum(const YamlNode& node, const std::string& path, const Field* field, pb::Message& message) {
    const pb::EnumDescriptor* type = field->enum_type();
    const pb::EnumValueDescriptor* value =
        node.kind == YamlNode::Kind::kScalar ? FindEnumValue(type, node.text) : nullptr;
    if (value != nullptr) {
      if (field->is_repeated()) return message.GetReflection()->AddEnum(&message, field, value);
      return message.GetReflection()->SetEnum(&message, field, value);
    }
    std::vector<std::string> known;
    for (int i = 1; i < type->value_count(); ++i) {
      known.push_back(absl::AsciiStrToLower(absl::StripPrefix(type->value(i)->name(), EnumPrefix(type))));
    }
    const std::string got = node.kind == YamlNode::Kind::kScalar ? Quoted(node.text) : node.KindName();
    Add(node, path,
        absl::StrCat("must be one of ", absl::StrJoin(known, ", "), ", not ", got, DidYouMean(node.text, known)));
  }

  const std::string& name_;
  Violations& violations_;
};

}  // namespace

void ReadMessage(const YamlNode& node, const std::string& name, pb::Message& message, Violations& violations) {
  Reader(name, violations).ReadFields(node, "", message);
}

}  // namespace lockstep
