// SPDX-License-Identifier: Apache-2.0
// A store in a folder of its own.
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "server/store/store.h"

namespace lockstep::store {

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "lockstep-store-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    Open();
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  void Open(Failpoints* failpoints = nullptr) {
    store_.reset();
    auto store = Store::Open(folder_, failpoints);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
  }
  // Runs SQL on the file, past the store.
  void Execute(const std::string& sql) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open((folder_ + "/lockstep.db").c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(database);
    sqlite3_close(database);
  }
  static InsertJob NewJob(const std::string& id, int64_t order) {
    return {{.job_id = id, .order = order, .shape = {.workers = 2, .total_steps = 100}, .spec = "spec", .status = "s"}};
  }

  std::string folder_;
  std::unique_ptr<Store> store_;
};

}  // namespace lockstep::store
