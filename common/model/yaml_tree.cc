// SPDX-License-Identifier: Apache-2.0
#include "common/model/yaml_tree.h"

#include <algorithm>
#include <exception>
#include <sstream>
#include <stdexcept>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/model/text.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/yaml.h"

namespace lockstep {

namespace {

// Leaves the parser, which knows no other way out.
struct Refused : std::runtime_error {
  Refused(const YAML::Mark& at, const std::string& what) : std::runtime_error(what), mark(at) {}
  YAML::Mark mark;
};

class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(YamlNode& root) : root_(root) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Add(Make(YamlNode::Kind::kNull, mark, anchor));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Refused(mark, "aliases (*name) are not allowed; write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = Make(YamlNode::Kind::kScalar, mark, anchor);
    CheckTag(mark, tag);
    node.text = value;
    node.quoted = tag == "!" || absl::EndsWith(tag, ":str");
    if (!node.quoted && (value == "~" || value == "null" || value == "Null" || value == "NULL")) {
      node.kind = YamlNode::Kind::kNull;
    }
    Add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    CheckTag(mark, tag);
    Open(mark, Make(YamlNode::Kind::kSequence, mark, anchor));
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    CheckTag(mark, tag);
    Open(mark, Make(YamlNode::Kind::kMap, mark, anchor));
  }
  void OnMapEnd() override { Close(); }

 private:
  static void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!" || absl::StartsWith(tag, "tag:yaml.org,2002:")) return;
    throw Refused(mark, absl::StrCat("the tag ", Quoted(tag), " is not known; leave it out"));
  }

  YamlNode Make(YamlNode::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) throw Refused(mark, "anchors (&name) are not allowed; write the value out");
    if (++nodes_ > kMaxYamlNodes) throw Refused(mark, absl::StrCat("more than ", kMaxYamlNodes, " values"));
    YamlNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    node.column = mark.column + 1;
    return node;
  }

  void Open(const YAML::Mark& mark, YamlNode node) {
    if (open_.size() >= kMaxYamlDepth) {
      throw Refused(mark, absl::StrCat("is nested deeper than ", kMaxYamlDepth, " levels"));
    }
    open_.push_back({std::move(node), {}, false});
  }

  void Close() {
    YamlNode done = std::move(open_.back().node);
    open_.pop_back();
    Add(std::move(done));
  }

  void Add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& frame = open_.back();
    if (frame.node.kind == YamlNode::Kind::kSequence) {
      frame.node.items.push_back(std::move(node));
    } else if (!frame.has_key) {
      frame.key = std::move(node);
      frame.has_key = true;
    } else {
      frame.node.entries.push_back({std::move(frame.key), std::move(node)});
      frame.has_key = false;
    }
  }

  struct Frame {
    YamlNode node;
    YamlNode key;
    bool has_key = false;
  };

  YamlNode& root_;
  std::vector<Frame> open_;
  int nodes_ = 0;
};

// What no YAML text holds and what the parser would guess an encoding from.
bool CheckBytes(const std::string& text, const std::string& name, Violations& violations) {
  if (text.size() > kMaxYamlBytes) {
    violations.Add("", absl::StrCat(name, ": has ", WithThousands(static_cast<int64_t>(text.size())),
                                    " bytes; a job file has at most ", WithThousands(kMaxYamlBytes)));
    return false;
  }
  int line = 1;
  for (size_t begin = 0; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const absl::string_view row = absl::string_view(text).substr(begin, end - begin);
    const auto control = [](char c) { return (c >= 0 && c < 0x20 && c != '\t' && c != '\r') || c == 0x7f; };
    const bool bad = std::any_of(row.begin(), row.end(), control);
    if (bad || !IsUtf8(row)) {
      violations.Add("", absl::StrCat(name, ":", line, ":1: ", bad ? "contains a control character" : "is not UTF-8",
                                      "; a job file is a YAML text"));
      return false;
    }
    begin = end + 1;
  }
  return true;
}

}  // namespace

const char* YamlNode::KindName() const {
  switch (kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kScalar:
      return "a single value";
    case Kind::kSequence:
      return "a list";
    case Kind::kMap:
      return "a map";
  }
  return "";
}

bool ParseYaml(const std::string& text, const std::string& name, YamlNode& root, Violations& violations) {
  if (!CheckBytes(text, name, violations)) return false;
  const auto refuse = [&](const YAML::Mark& mark, const std::string& what) {
    const std::string place =
        mark.is_null() || mark.line < 0 ? "" : absl::StrCat(":", mark.line + 1, ":", mark.column + 1);
    violations.Add("", absl::StrCat(name, place, ": ", what));
    return false;
  };
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    TreeBuilder builder(root);
    if (!parser.HandleNextDocument(builder)) return refuse(YAML::Mark::null_mark(), "is empty");
    YamlNode rest;
    TreeBuilder second(rest);
    if (parser.HandleNextDocument(second)) {
      return refuse(YAML::Mark::null_mark(), "holds more than one document; a job file describes one job");
    }
  } catch (const Refused& e) {
    return refuse(e.mark, e.what());
  } catch (const YAML::Exception& e) {
    return refuse(e.mark, absl::StrCat("not valid YAML: ", e.msg));
  } catch (const std::exception& e) {
    return refuse(YAML::Mark::null_mark(), absl::StrCat("cannot be parsed: ", e.what()));
  }
  return true;
}

}  // namespace lockstep
