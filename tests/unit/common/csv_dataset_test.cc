// SPDX-License-Identifier: Apache-2.0
#include "common/model/csv_dataset.h"

#include <gmock/gmock.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

class CsvDatasetTest : public FolderTest {
 protected:
  CsvDatasetTest() { spec_.add_target_columns("y"); }
  absl::StatusOr<CsvTable> Load(const std::string& text, uint64_t seed = 1) {
    const TestFd fd(Write("t.csv", text));
    return LoadCsvTable(fd.get(), "t.csv", spec_, seed);
  }
  void ExpectRefused(const std::string& text, const std::string& part) {
    const auto table = Load(text);
    EXPECT_FALSE(table.ok()) << part;
    EXPECT_THAT(std::string(table.status().message()), HasSubstr(part));
  }
  // x = i, y = 10 i for i in [0, rows).
  static std::string Line(int rows) {
    std::string text = "x,y\n";
    for (int i = 0; i < rows; ++i) absl::StrAppend(&text, i, ",", 10 * i, "\n");
    return text;
  }
  v1::CsvDataset spec_;
};

TEST_F(CsvDatasetTest, SplitsBySeedAndKeepsRowsTogether) {
  const auto table = Load(Line(101));
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->test.rows, 20);
  EXPECT_EQ(table->train.rows, 81);
  std::vector<int> seen(101);
  for (const CsvPart* part : {&table->train, &table->test}) {
    for (int64_t i = 0; i < part->rows; ++i) {
      EXPECT_EQ(part->targets[i], 10 * part->features[i]);
      ++seen[static_cast<size_t>(part->features[i])];
      if (i > 0) {
        EXPECT_GT(part->features[i], part->features[i - 1]);
      }
    }
  }
  for (int count : seen) EXPECT_EQ(count, 1);
  EXPECT_EQ(Load(Line(101))->test.features, table->test.features);
  EXPECT_NE(Load(Line(101), 2)->test.features, table->test.features);
}

TEST_F(CsvDatasetTest, StandardizesOverTheTrainingRows) {
  spec_.set_standardize_features(true);
  spec_.set_standardize_targets(true);
  const auto table = Load(Line(500));
  ASSERT_TRUE(table.ok()) << table.status();
  for (const auto* values : {&table->train.features, &table->train.targets}) {
    double sum = 0, squares = 0;
    for (float v : *values) sum += v, squares += double{v} * v;
    EXPECT_NEAR(sum / 400, 0, 1e-6);
    EXPECT_NEAR(squares / 400, 1, 1e-5);
  }
  EXPECT_NEAR(table->preprocessing.targets[0].stddev[0], 10 * table->preprocessing.features[0].stddev[0], 1e-6);
}

TEST_F(CsvDatasetTest, AColumnThatNeverChangesBecomesZeros) {
  spec_.set_standardize_features(true);
  const auto table = Load("x,y\n7,1\n7,2\n7,3\n7,4\n7,5\n");
  ASSERT_TRUE(table.ok());
  for (float v : table->train.features) EXPECT_EQ(v, 0.0f);
}

TEST_F(CsvDatasetTest, MissingCellsFollowThePolicy) {
  const std::string text = "x,y\n1,1\n,2\n3,3\n4,4\n5,5\n";
  ExpectRefused(text, "row 3, column \"x\": the cell is empty");
  spec_.set_missing_values(v1::MISSING_VALUE_POLICY_DROP_ROWS);
  EXPECT_EQ(Load(text)->train.rows + Load(text)->test.rows, 4);
  spec_.set_missing_values(v1::MISSING_VALUE_POLICY_MEAN);
  const auto table = Load(text);
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->train.rows + table->test.rows, 5);
  for (const CsvPart* part : {&table->train, &table->test}) {
    for (float v : part->features) EXPECT_TRUE(std::isfinite(v));
  }
  ExpectRefused("x,y\n,1\n,2\n,3\n,4\n", "has no value in any training row");
  ExpectRefused("x,y\n1,1\n2,\n", "row 3, column \"y\"");
}

TEST_F(CsvDatasetTest, CellsThatAreNoNumbersAreNamed) {
  ExpectRefused("x,y\n1,1\nabc,2\n", "row 3, column \"x\": \"abc\" is not a number");
  ExpectRefused("x,y\n1,nan\n", "row 2, column \"y\"");
  ExpectRefused("x,y\n1,1e300\n", "is not a number");
}

TEST_F(CsvDatasetTest, ColumnsAreChosenByName) {
  const std::string text = "place,a,b,y\nx,1,2,3\nx,4,5,6\nx,7,8,9\n";
  ExpectRefused(text, "column \"place\"");
  spec_.add_ignore_columns("place");
  EXPECT_EQ(Load(text)->features, 2);
  spec_.clear_ignore_columns();
  spec_.add_feature_columns("b");
  EXPECT_EQ(Load(text)->features, 1);
  spec_.add_feature_columns("aa");
  ExpectRefused(text, "no column \"aa\"; did you mean \"a\"?");
  spec_.mutable_feature_columns()->Clear();
  spec_.add_feature_columns("y");
  ExpectRefused(text, "both a feature and a target");
  spec_.mutable_feature_columns()->Clear();
  ExpectRefused("a,a,y\n1,2,3\n", "");
}

TEST_F(CsvDatasetTest, ATableTooSmallToSplitIsRefused) {
  ExpectRefused("", "");
  ExpectRefused("x,y\n", "too few");
  ExpectRefused("x,y\n1,2\n", "too few");
}

}  // namespace
}  // namespace lockstep
