// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "common/model/checks.h"

namespace lockstep {

namespace {

// Adds what is wrong under loss.<kind>.
class LossCheck {
 public:
  LossCheck(std::string field, const DatasetInfo* dataset, const ModelPlan* model, Violations& violations)
      : field_(std::move(field)), dataset_(dataset), model_(model), violations_(violations) {}

  // The targets are class indices, one output for each class.
  void Classes() {
    if (known_data() && !dataset_->classification) {
      Add("needs class labels, but the data set's targets are numbers; use categorical_crossentropy for "
          "distributions, else mean_squared_error");
    }
    OneOutputPerClass();
    if (known_data() && model_ != nullptr && dataset_->classes > model_->output.elements()) {
      Add(absl::StrCat("the labels go up to ", dataset_->classes - 1, ", but the model has ", model_->output.elements(),
                       " outputs; the last layer needs at least ", dataset_->classes, " units"));
    }
  }

  // The targets are numbers, as many as outputs.
  void Numbers(std::string_view instead) {
    if (!known_data()) return;
    if (dataset_->classification) {
      Add(absl::StrCat("needs numbers as targets, but the data set has class labels; use ",
                       absl::string_view(instead.data(), instead.size())));
    } else if (model_ != nullptr && model_->output.elements() != dataset_->target_width) {
      Add(absl::StrCat("the model ends in ", model_->output.ToString(), ", but a target has ", dataset_->target_width,
                       " value(s); change the last layer's units"));
    }
  }

  // Numbers, or labels 0 and 1 for one output.
  void YesOrNo() {
    if (!known_data()) return;
    if (!dataset_->classification) return Numbers("");
    if (dataset_->classes > 2) {
      Add(absl::StrCat("knows two classes, but the labels go up to ", dataset_->classes - 1,
                       "; use sparse_categorical_crossentropy"));
    } else if (model_ != nullptr && model_->output.elements() != 1) {
      Add(absl::StrCat("needs one output where the targets are labels, but the model ends in ",
                       model_->output.ToString(), "; use 1 unit, or sparse_categorical_crossentropy"));
    }
  }

  void OneOutputPerClass() {
    if (model_ == nullptr || (model_->output.rank() == 1 && model_->output.elements() >= 2)) return;
    Add(absl::StrCat("needs one output for each class, at least 2, but the model ends in ", model_->output.ToString()));
  }

  // The model's end and from_logits agree; `best`: what it should end in.
  void Logits(bool from_logits, std::string_view best, std::initializer_list<std::string_view> probabilities) {
    if (model_ == nullptr) return;
    const absl::string_view layer(best.data(), best.size());
    const bool ends_so = EndsIn(probabilities);
    if (!from_logits && !ends_so) {
      violations_.Add(field_ + ".from_logits", absl::StrCat("is false, so the model must end in a ", layer,
                                                            "; add one, or set from_logits: true for raw outputs"));
    } else if (from_logits && ends_so) {
      violations_.Add(field_ + ".from_logits", absl::StrCat("is true, but the model ends in a ",
                                                            model_->layers.back().kind, "; remove one of the two"));
    }
  }

  void Probabilities() {
    if (model_ == nullptr || EndsIn({"softmax", "sigmoid", "hard_sigmoid"})) return;
    Add("compares distributions, so the model must end in a softmax; add one");
  }

  void Smoothing(double smoothing) {
    if (smoothing >= 0 && smoothing < 1) return;
    violations_.Add(field_ + ".label_smoothing", absl::StrCat("is ", smoothing, "; must be at least 0 and below 1"));
  }

  void Weights(const google::protobuf::RepeatedField<double>& weights) {
    const std::string field = field_ + ".class_weights";
    if (weights.empty()) return;
    if (model_ != nullptr && weights.size() != model_->output.elements()) {
      violations_.Add(field, absl::StrCat("has ", weights.size(), " numbers, but the model has ",
                                          model_->output.elements(), " outputs; give one for each class"));
    }
    for (int i = 0; i < weights.size(); ++i) {
      if (std::isfinite(weights[i]) && weights[i] >= 0) continue;
      violations_.Add(absl::StrCat(field, "[", i, "]"), absl::StrCat("is ", weights[i], "; must be at least 0"));
    }
    if (std::ranges::all_of(weights, [](double w) { return w == 0; })) {
      violations_.Add(field, "are all 0, so there is nothing to learn; leave it out for 1 each");
    }
  }

  void Delta(const v1::HuberLoss& huber) {
    if (!huber.has_delta() || (std::isfinite(huber.delta()) && huber.delta() > 0)) return;
    violations_.Add(field_ + ".delta", absl::StrCat("is ", huber.delta(), "; must be greater than 0"));
  }

 private:
  // The data set is at hand and nothing is wrong with it.
  bool known_data() const { return dataset_ != nullptr && dataset_->sample.rank() > 0; }
  bool EndsIn(std::initializer_list<std::string_view> kinds) const {
    return std::ranges::find(kinds, std::string_view(model_->layers.back().kind)) != kinds.end();
  }
  void Add(const std::string& what) { violations_.Add(field_, what); }

  std::string field_;
  const DatasetInfo* dataset_;
  const ModelPlan* model_;
  Violations& violations_;
};

}  // namespace

void CheckLoss(const v1::JobSpec& spec, const DatasetInfo* dataset, const ModelPlan* model, Violations& violations) {
  const v1::LossSpec& loss = spec.loss();
  const auto* kind = v1::LossSpec::descriptor()->FindFieldByNumber(loss.kind_case());
  if (kind == nullptr) {
    violations.Add("loss",
                   "is missing; give sparse_categorical_crossentropy for class labels or mean_squared_error "
                   "for numbers, for example");
    return;
  }
  LossCheck check("loss." + kind->name(), dataset, model, violations);
  switch (loss.kind_case()) {
    case v1::LossSpec::kSparseCategoricalCrossentropy: {
      const v1::SparseCategoricalCrossentropyLoss& l = loss.sparse_categorical_crossentropy();
      check.Classes();
      check.Logits(l.from_logits(), "softmax", {"softmax"});
      check.Smoothing(l.label_smoothing());
      return check.Weights(l.class_weights());
    }
    case v1::LossSpec::kCategoricalCrossentropy: {
      const v1::CategoricalCrossentropyLoss& l = loss.categorical_crossentropy();
      check.Numbers("sparse_categorical_crossentropy, which takes them as they are");
      check.OneOutputPerClass();
      check.Logits(l.from_logits(), "softmax", {"softmax"});
      check.Smoothing(l.label_smoothing());
      return check.Weights(l.class_weights());
    }
    case v1::LossSpec::kBinaryCrossentropy:
      check.YesOrNo();
      check.Logits(loss.binary_crossentropy().from_logits(), "sigmoid", {"sigmoid", "hard_sigmoid", "softmax"});
      return check.Smoothing(loss.binary_crossentropy().label_smoothing());
    case v1::LossSpec::kHinge:
      return check.YesOrNo();
    case v1::LossSpec::kKlDivergence:
      check.Numbers("sparse_categorical_crossentropy");
      return check.Probabilities();
    case v1::LossSpec::kHuber:
      check.Delta(loss.huber());
      return check.Numbers("sparse_categorical_crossentropy");
    default:
      return check.Numbers("sparse_categorical_crossentropy");
  }
}

}  // namespace lockstep
