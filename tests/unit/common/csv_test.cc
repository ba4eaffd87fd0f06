// SPDX-License-Identifier: Apache-2.0
#include "common/formats/csv.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Row = std::vector<std::string>;

class CsvTest : public FolderTest {
 protected:
  absl::Status Read(const std::string& text) {
    rows_.clear();
    numbers_.clear();
    const TestFd fd(Write("t.csv", text));
    return ReadCsv(fd.get(), "t.csv", [&](int64_t row, const Row& cells) {
      rows_.push_back(cells);
      numbers_.push_back(row);
      return absl::OkStatus();
    });
  }
  void ExpectRefused(const std::string& text, const std::string& part) {
    const absl::Status status = Read(text);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << part;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
  std::vector<Row> rows_;
  std::vector<int64_t> numbers_;
};

TEST_F(CsvTest, ReadsQuotesLineBreaksAndTheLastLine) {
  ASSERT_TRUE(Read("a,b\r\n\"x, \"\"y\"\"\nz\",2\n\n,\"\"\n3,4").ok());
  EXPECT_THAT(rows_, ElementsAre(Row{"a", "b"}, Row{"x, \"y\"\nz", "2"}, Row{"", ""}, Row{"3", "4"}));
  EXPECT_THAT(numbers_, ElementsAre(1, 2, 4, 5));
}

TEST_F(CsvTest, PassesOverAByteOrderMark) {
  ASSERT_TRUE(Read("\xEF\xBB\xBFname,b\n1,2\n").ok());
  EXPECT_EQ(rows_[0][0], "name");
}

TEST_F(CsvTest, RefusesWhatIsNotCsv) {
  ExpectRefused("a,b\n1\n", "row 2 has 1 cells, the header has 2");
  ExpectRefused("a,b\n1,2,3\n", "row 2 has 3 cells");
  ExpectRefused("a\n\"open\n", "ends inside quotes");
  ExpectRefused("a\n\"x\"y\n", "behind a closing quote");
  ExpectRefused("a\nx\"y\n", "quote inside an unquoted cell");
  ExpectRefused("a\nx\ry\n", "carriage return");
  ExpectRefused(std::string("a\n\0\n", 4), "NUL");
}

TEST_F(CsvTest, RowsAreBounded) {
  ExpectRefused(absl::StrCat("a\n\"", std::string(kMaxCsvRowBytes + 1, 'x')), "longer than 1 MiB");
  ExpectRefused(std::string(kMaxCsvColumns, ','), "more than 10000 columns");
  EXPECT_TRUE(Read(std::string(kMaxCsvColumns - 1, ',')).ok());
}

TEST_F(CsvTest, AnEmptyFileHasNoRows) {
  EXPECT_TRUE(Read("").ok());
  EXPECT_TRUE(rows_.empty());
}

}  // namespace
}  // namespace lockstep
