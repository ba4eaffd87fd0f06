// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "common/formats/idx.h"
#include "common/model/job_plan.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

auto Fault(const std::string& field, const std::string& part) {
  return ::testing::AllOf(Field(&Violation::field, field), Field(&Violation::description, HasSubstr(part)));
}

class DatasetProbeTest : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    fs::create_directories(Path("root/d"));
    Part("train", 6, 6);
    Part("t10k", 2, 2);
    spec_.mutable_idx()->set_path("d");
  }
  std::string File(const std::string& name) { return Path(absl::StrCat("root/d/", name)); }
  void Part(const std::string& prefix, int64_t images, int64_t labels, int64_t side = 4) {
    std::vector<uint8_t> pixels(static_cast<size_t>(images * side * side)), classes;
    for (int64_t i = 0; i < labels; ++i) classes.push_back(static_cast<uint8_t>(i % 3));
    ASSERT_TRUE(WriteIdx(File(prefix + "-images-idx3-ubyte"), Shape{images, side, side}, pixels).ok());
    ASSERT_TRUE(WriteIdx(File(prefix + "-labels-idx1-ubyte"), Shape{labels}, classes).ok());
  }
  std::vector<Violation> Probe() {
    Violations violations;
    info_ = ProbeDataset(spec_, {Path("root")}, /*seed=*/1, violations);
    return violations.list();
  }
  v1::DatasetSpec spec_;
  DatasetInfo info_;
};

TEST_F(DatasetProbeTest, ReadsTheHeadersOfAnImageSet) {
  EXPECT_THAT(Probe(), IsEmpty());
  EXPECT_EQ(info_.sample, (Shape{4, 4}));
  EXPECT_EQ(info_.train_samples, 6);
  EXPECT_EQ(info_.test_samples, 2);
  EXPECT_TRUE(info_.classification);
  EXPECT_EQ(info_.classes, 3);
}

TEST_F(DatasetProbeTest, ANameMayHaveTheCompressedEndingOrNot) {
  spec_.mutable_idx()->set_train_images("train-images-idx3-ubyte.gz");
  EXPECT_THAT(Probe(), IsEmpty());
}

TEST_F(DatasetProbeTest, WrongFilesAreAllNamed) {
  fs::remove(File("train-images-idx3-ubyte"));
  fs::resize_file(File("t10k-images-idx3-ubyte"), 30);
  Write("root/d/t10k-labels-idx1-ubyte", "not idx at all");
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.idx.train_images", "is in none of the data folders"),
                                   Fault("dataset.idx.test_images", "truncated"),
                                   Fault("dataset.idx.test_labels", "not an IDX file")));
}

TEST_F(DatasetProbeTest, CountsAndSizesMustAgree) {
  Part("train", 6, 5);
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.idx.train_images", "5 labels")));
  Part("train", 6, 6);
  Part("t10k", 2, 2, 5);
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.idx.test_images", "[2, 5, 5]")));
}

TEST_F(DatasetProbeTest, PathsThatLeadOutAndPipesAreRefused) {
  Write("outside/train-images-idx3-ubyte", "");
  fs::create_symlink(Path("outside"), Path("root/link"));
  for (const char* path : {"../outside", "link", "/etc"}) {
    spec_.mutable_idx()->set_path(path);
    const auto violations = Probe();
    ASSERT_FALSE(violations.empty());
    EXPECT_THAT(violations[0], Fault("dataset.idx.train_images", "")) << path;
    EXPECT_THAT(violations[0].description,
                ::testing::AnyOf(HasSubstr("outside"), HasSubstr("none of the data folders")));
  }
  spec_.mutable_idx()->set_path("d");
  fs::remove(File("train-images-idx3-ubyte"));
  ASSERT_EQ(mkfifo(File("train-images-idx3-ubyte").c_str(), 0600), 0);
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.idx.train_images", "FIFO")));
}

TEST_F(DatasetProbeTest, LabelsBeyondTheModelsOutputsAreFoundAtSubmit) {
  EXPECT_THAT(Probe(), IsEmpty());
  Violations violations;
  const v1::JobSpec spec = ParseJobFile(
      "{name: a, model: {layers: [{flatten: {}}, {dense: {units: 2}}]}, loss: "
      "{sparse_categorical_crossentropy: {from_logits: true}}, optimizer: {sgd: {}}, training: "
      "{batch_size: 2, epochs: 1}, resources: {workers: 1}}",
      "x", violations);
  PlanJob(spec, &info_, violations);
  EXPECT_THAT(violations.list(), ElementsAre(Fault("loss.sparse_categorical_crossentropy", "needs at least 3 units")));
}

TEST_F(DatasetProbeTest, ReadsATable) {
  std::string text = "a,b,y\n";
  for (int i = 0; i < 10; ++i) text += "1,2,3\n";
  Write("root/t.csv", text);
  spec_.mutable_csv()->set_path("t.csv");
  spec_.mutable_csv()->add_target_columns("y");
  EXPECT_THAT(Probe(), IsEmpty());
  EXPECT_EQ(info_.sample, (Shape{2}));
  EXPECT_FALSE(info_.classification);
  EXPECT_EQ(info_.train_samples, 8);
  EXPECT_EQ(info_.test_samples, 2);
  spec_.mutable_csv()->set_target_columns(0, "z");
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.csv", "no column \"z\"")));
}

TEST_F(DatasetProbeTest, WithoutASourceItSaysSo) {
  spec_.Clear();
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset", "has no source")));
  spec_.mutable_idx();
  EXPECT_THAT(Probe(), ElementsAre(Fault("dataset.idx.path", "missing")));
}

TEST_F(DatasetProbeTest, TheRealDataSets) {
  const char* data = std::getenv("LOCKSTEP_DATA_DIR");
  if (data == nullptr) GTEST_SKIP() << "LOCKSTEP_DATA_DIR is not set";
  Violations violations;
  spec_.mutable_idx()->set_path("mnist");
  info_ = ProbeDataset(spec_, {data}, /*seed=*/1, violations);
  EXPECT_THAT(violations.list(), IsEmpty());
  EXPECT_EQ(info_.sample, (Shape{28, 28}));
  EXPECT_EQ(info_.train_samples, 60000);
  EXPECT_EQ(info_.classes, 10);
  auto* csv = spec_.mutable_csv();
  csv->set_path("california-housing/housing.csv");
  csv->add_target_columns("median_house_value");
  csv->add_ignore_columns("ocean_proximity");
  csv->set_missing_values(v1::MISSING_VALUE_POLICY_DROP_ROWS);
  info_ = ProbeDataset(spec_, {data}, /*seed=*/1, violations);
  EXPECT_THAT(violations.list(), IsEmpty());
  EXPECT_EQ(info_.sample, (Shape{8}));
  EXPECT_EQ(info_.train_samples + info_.test_samples, 20433);
  EXPECT_EQ(info_.test_samples, 4087);
}

}  // namespace
}  // namespace lockstep
