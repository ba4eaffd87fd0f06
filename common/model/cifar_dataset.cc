// SPDX-License-Identifier: Apache-2.0
#include "common/model/cifar_dataset.h"

#include "absl/strings/str_cat.h"

namespace lockstep {

CifarFiles CifarFileNames(const v1::CifarDataset& spec) {
  const bool ten = CifarLayoutOf(spec).label_bytes == 1;
  const auto in_folder = [&](const auto& given, const std::vector<std::string>& otherwise) {
    std::vector<std::string> names(given.begin(), given.end());
    if (names.empty()) names = otherwise;
    if (spec.path().empty()) return names;
    for (std::string& name : names) name = absl::StrCat(spec.path(), "/", name);
    return names;
  };
  const std::vector<std::string> ten_files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                              "data_batch_4.bin", "data_batch_5.bin"};
  return {in_folder(spec.train_files(), ten ? ten_files : std::vector<std::string>{"train.bin"}),
          in_folder(spec.test_files(), {ten ? "test_batch.bin" : "test.bin"})};
}

CifarLayout CifarLayoutOf(const v1::CifarDataset& spec) {
  switch (spec.labels()) {
    case v1::CIFAR_LABELS_CIFAR100_FINE:
      return kCifar100Fine;
    case v1::CIFAR_LABELS_CIFAR100_COARSE:
      return kCifar100Coarse;
    default:
      return kCifar10;
  }
}

}  // namespace lockstep
