// SPDX-License-Identifier: Apache-2.0
// Text in tables: features of categories, classes, and what is kept of it for new data.
#include <gmock/gmock.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "common/model/csv_dataset.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CsvTextTest : public FolderTest {
 protected:
  CsvTextTest() { spec_.add_target_columns("y"); }
  absl::StatusOr<CsvTable> Load(const std::string& text, uint64_t seed = 1) {
    const TestFd fd(Write("t.csv", text));
    return LoadCsvTable(fd.get(), "t.csv", spec_, seed);
  }
  void ExpectRefused(const std::string& text, const std::string& part) {
    const auto table = Load(text);
    EXPECT_FALSE(table.ok()) << part;
    EXPECT_THAT(std::string(table.status().message()), HasSubstr(part));
  }
  static std::vector<float> Row(const CsvTable& table, const CsvPart& part, int64_t row) {
    const auto begin = part.features.begin() + row * table.features;
    return {begin, begin + table.features};
  }
  // Rows "i,place,10 i" with the places in turn.
  static std::string Places(int rows, const std::vector<std::string>& places) {
    std::string text = "x,place,y\n";
    for (int i = 0; i < rows; ++i) absl::StrAppend(&text, i, ",", places[i % places.size()], ",", 10 * i, "\n");
    return text;
  }
  v1::CsvDataset spec_;
};

TEST_F(CsvTextTest, ACategoryBecomesAFeatureForEachValue) {
  spec_.add_categorical_columns("place");
  spec_.set_standardize_features(true);
  const auto table = Load(Places(100, {"sea", "bay", "\"in, land\""}));
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->features, 4);
  const ColumnPreprocessing& column = table->preprocessing.features[1];
  EXPECT_THAT(column.categories, ElementsAre("bay", "in, land", "sea"));
  EXPECT_FALSE(column.standardized);
  EXPECT_NEAR(column.mean[0] + column.mean[1] + column.mean[2], 1, 1e-12);
  for (const CsvPart* part : {&table->train, &table->test}) {
    for (int64_t i = 0; i < part->rows; ++i) {
      // Which of the three the row had: y is 10 i.
      const int place = static_cast<int>(part->targets[i]) / 10 % 3;
      const auto row = Row(*table, *part, i);
      EXPECT_THAT(std::vector<float>(row.begin() + 1, row.end()),
                  ElementsAre(place == 1 ? 1 : 0, place == 2 ? 1 : 0, place == 0 ? 1 : 0));
    }
  }
}

TEST_F(CsvTextTest, ColumnsKeepTheirPlaces) {
  spec_.add_categorical_columns("place");
  spec_.add_feature_columns("x");
  auto table = Load(Places(20, {"a", "b"}));
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->preprocessing.features[1].name, "place");
  spec_.set_feature_columns(0, "place");
  spec_.add_feature_columns("x");
  table = Load(Places(20, {"a", "b"}));
  EXPECT_EQ(table->preprocessing.features[0].name, "place");
  EXPECT_EQ(table->features, 3);
}

// A value that only held-out rows have is not known to the model: how many features there are depends on the
// seed.
TEST_F(CsvTextTest, AValueWithoutATrainingRowIsAllZeros) {
  spec_.add_categorical_columns("place");
  std::string text = "x,place,y\n";
  for (int i = 0; i < 20; ++i) absl::StrAppend(&text, i, ",", i == 7 ? "rare" : "often", ",1\n");
  std::set<int64_t> widths;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const auto table = Load(text, seed);
    ASSERT_TRUE(table.ok());
    widths.insert(table->features);
    for (int64_t i = 0; i < table->test.rows; ++i) {
      const auto row = Row(*table, table->test, i);
      if (row[0] == 7) {
        EXPECT_THAT(row, ElementsAre(7, 0));
      }
    }
  }
  EXPECT_THAT(widths, ElementsAre(2, 3));
}

TEST_F(CsvTextTest, EmptyTextFollowsThePolicy) {
  spec_.add_categorical_columns("place");
  const std::string text = "x,place,y\n1,a,1\n2,,2\n3,b,3\n4,a,4\n5,b,5\n6,a,6\n";
  ExpectRefused(text, "row 3, column \"place\": the cell is empty");
  spec_.set_missing_values(v1::MISSING_VALUE_POLICY_DROP_ROWS);
  EXPECT_EQ(Load(text)->train.rows + Load(text)->test.rows, 5);
  spec_.set_missing_values(v1::MISSING_VALUE_POLICY_MEAN);
  const auto table = Load(text);
  ASSERT_TRUE(table.ok());
  const auto& mean = table->preprocessing.features[1].mean;
  for (const CsvPart* part : {&table->train, &table->test}) {
    for (int64_t i = 0; i < part->rows; ++i) {
      const auto row = Row(*table, *part, i);
      if (row[0] != 2) continue;
      EXPECT_FLOAT_EQ(row[1], static_cast<float>(mean[0]));
      EXPECT_FLOAT_EQ(row[2], static_cast<float>(mean[1]));
    }
  }
}

TEST_F(CsvTextTest, ATargetMayNameClasses) {
  spec_.set_classify_target(true);
  auto table = Load("x,y\n1,cat\n2,ant\n3,bee\n4,ant\n5,cat\n6,bee\n");
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(table->preprocessing.classes, ElementsAre("ant", "bee", "cat"));
  EXPECT_EQ(table->targets, 1);
  const std::vector<int32_t> expected{2, 0, 1, 0, 2, 1};
  for (const CsvPart* part : {&table->train, &table->test}) {
    EXPECT_TRUE(part->targets.empty());
    for (int64_t i = 0; i < part->rows; ++i) EXPECT_EQ(part->labels[i], expected[part->features[i] - 1]);
  }
  // Whole numbers are in their own order.
  table = Load("x,y\n1,10\n2,9\n3,-1\n4,9\n5,10\n");
  EXPECT_THAT(table->preprocessing.classes, ElementsAre("-1", "9", "10"));
}

TEST_F(CsvTextTest, TextThatIsNoCategoryIsRefused) {
  spec_.add_categorical_columns("place");
  ExpectRefused(Places(3, {std::string(2000, 'x')}), "is not UTF-8 text of at most 1024 bytes");
  ExpectRefused(Places(3, {"\xff\xfe"}), "column \"place\": \"\\xff\\xfe\" is not UTF-8");
  std::string text = "place,y\n";
  for (int i = 0; i < 10'002; ++i) absl::StrAppend(&text, "p", i, ",1\n");
  ExpectRefused(text, "row 10002, column \"place\": more than 10000 different values");
  ExpectRefused("pl\xff,place,y\n1,a,2\n", "the name of column 1, \"pl\\xff\", is not UTF-8");
  spec_.add_categorical_columns("plaec");
  ExpectRefused(Places(5, {"a"}), "no column \"plaec\"; did you mean \"place\"?");
}

TEST_F(CsvTextTest, SeveralFilesAreOneTable) {
  for (int i = 0; i < 3; ++i) Write(absl::StrCat("data/part-", i, ".csv"), absl::StrCat("x,y\n", i, ",0\n", i, ",1\n"));
  spec_.set_path("part-*.csv");
  auto table = LoadCsvTable(spec_, {Path("data")}, 1);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->train.rows + table->test.rows, 6);
  EXPECT_TRUE(std::is_sorted(table->train.features.begin(), table->train.features.end()));
  Write("data/part-1.csv", "x,y\n1,0\nnone,1\n");
  table = LoadCsvTable(spec_, {Path("data")}, 1);
  EXPECT_THAT(std::string(table.status().message()), HasSubstr("part-1.csv: row 3, column \"x\""));
  Write("data/part-1.csv", "y,x\n1,0\n");
  table = LoadCsvTable(spec_, {Path("data")}, 1);
  EXPECT_THAT(std::string(table.status().message()), HasSubstr("part-1.csv: its header line is not that of "));
  Write("data/part-1.csv", "");
  EXPECT_THAT(std::string(LoadCsvTable(spec_, {Path("data")}, 1).status().message()), HasSubstr("has no header line"));
}

TEST_F(CsvTextTest, WhatIsKeptMakesTheSameOfNewData) {
  spec_.add_categorical_columns("place");
  spec_.set_standardize_features(true);
  spec_.set_standardize_targets(true);
  const std::string text = Places(50, {"a", "b"});
  const auto table = Load(text);
  ASSERT_TRUE(table.ok()) << table.status();
  Preprocessing all{.sample_shape = {3}, .table = table->preprocessing};
  const auto kept = ParsePreprocessing(PreprocessingText(all), "m");
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(PreprocessingText(*kept), PreprocessingText(all));
  const TestFd same(Write("t.csv", text));
  const auto part = ApplyPreprocessing(same.get(), "t.csv", *kept->table, /*with_targets=*/true);
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ(part->rows, 50);
  size_t at = 0;
  for (int64_t i = 0; i < part->rows && at < table->train.features.size(); ++i) {
    const auto row = Row(*table, *part, i);
    if (row[0] != table->train.features[at]) continue;
    EXPECT_EQ(row, Row(*table, table->train, static_cast<int64_t>(at) / 3));
    EXPECT_EQ(part->targets[i], table->train.targets[at / 3]);
    at += 3;
  }
  EXPECT_EQ(at, table->train.features.size());
  // Other columns, another order, no targets, an unknown place.
  const TestFd other(Write("n.csv", "place,more,x\nb,?,7\nnew,?,8\n"));
  const auto fresh = ApplyPreprocessing(other.get(), "n.csv", *kept->table, /*with_targets=*/false);
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  EXPECT_EQ(Row(*table, *fresh, 0), (std::vector<float>{part->features[21], 0, 1}));
  EXPECT_THAT(Row(*table, *fresh, 1), ElementsAre(part->features[24], 0, 0));
  EXPECT_TRUE(fresh->targets.empty());
}

TEST_F(CsvTextTest, ClassesOfNewDataAreFound) {
  spec_.set_classify_target(true);
  const auto table = Load("x,y\n1,cat\n2,ant\n3,bee\n4,ant\n5,cat\n6,bee\n");
  const TestFd good(Write("g.csv", "y,x\nbee,1\n"));
  EXPECT_THAT(ApplyPreprocessing(good.get(), "g", table->preprocessing, true)->labels, ElementsAre(1));
  const TestFd bad(Write("b.csv", "y,x\nbee,1\ndog,2\n"));
  EXPECT_THAT(std::string(ApplyPreprocessing(bad.get(), "b", table->preprocessing, true).status().message()),
              HasSubstr("b: row 1 behind the header: \"y\" is none of the model's classes"));
}

TEST(PreprocessingTest, WhatIsNotValidIsRefused) {
  const auto expect = [](const std::string& text, const std::string& part) {
    const auto parsed = ParsePreprocessing(text, "m");
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(part)) << text;
  };
  const std::string good = PreprocessingText({.sample_shape = {2}, .table = TablePreprocessing{}});
  ASSERT_TRUE(ParsePreprocessing(good, "m").ok());
  for (size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(ParsePreprocessing(good.substr(0, n), "m").ok()) << n;
  expect("", "no JSON object");
  expect("[]", "no JSON object");
  expect(std::string(100'000, '['), "no JSON object");
  expect("{}", "\"format\" is missing");
  expect("{\"format\":\"lockstep-preprocessing\",\"version\":2}", "not of version 1");
  std::string changed = good;
  changed.replace(changed.find("\"scale\":1.0"), 11, "\"scale\":\"a\"");
  expect(changed, "\"scale\" is missing or of the wrong type");
  changed = good;
  changed.replace(changed.find("\"features\":[]"), 13,
                  "\"features\":[{\"name\":\"a\",\"mean\":[0],\"stddev\":[0],\"standardized\":true}]");
  expect(changed, "column \"a\" has a stddev that is not above 0");
}

TEST(PreprocessingTest, PixelsHaveTheirScale) {
  v1::DatasetSpec spec;
  spec.mutable_idx();
  EXPECT_EQ(PreprocessingOf(spec, Shape{28, 28}).scale, 1.0 / 255.0);
  spec.mutable_numpy()->set_offset(-1);
  spec.mutable_normalize()->add_mean(0.5);
  spec.mutable_normalize()->add_stddev(0.25);
  const Preprocessing p = ParsePreprocessing(PreprocessingText(PreprocessingOf(spec, Shape{3, 4})), "m").value();
  EXPECT_EQ(p.scale, 1);
  EXPECT_EQ(p.offset, -1);
  EXPECT_THAT(p.mean, ElementsAre(0.5));
  EXPECT_THAT(p.stddev, ElementsAre(0.25));
  EXPECT_THAT(p.sample_shape, ElementsAre(3, 4));
}

}  // namespace
}  // namespace lockstep
