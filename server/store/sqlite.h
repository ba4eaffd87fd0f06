// SPDX-License-Identifier: Apache-2.0
// A thin layer over SQLite: connections and statements that clean up after themselves and give absl::Status.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct sqlite3;
struct sqlite3_stmt;

namespace lockstep::store {

class Database;

// A prepared statement in use. Bind from 1, Step, read columns from 0. Reset when it goes out of scope.
// The database must outlive it.
class Statement {
 public:
  Statement(Database* database, sqlite3_stmt* statement) : database_(database), statement_(statement) {}
  Statement(Statement&& other) noexcept : database_(other.database_), statement_(other.statement_) {
    other.statement_ = nullptr;
  }
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  Statement& Bind(int index, int64_t value);
  Statement& BindText(int index, std::string_view value);
  Statement& BindBlob(int index, std::string_view value);

  // Makes it ready to be bound and run again.
  void Rewind();
  // True: there is a row. False: done.
  absl::StatusOr<bool> Step();
  // Runs a statement that gives no rows.
  absl::Status Run();

  int64_t Int(int column) const;
  std::string Bytes(int column) const;

 private:
  Database* database_;
  sqlite3_stmt* statement_;
};

// One connection. Not thread-safe.
class Database {
 public:
  // Opens or creates the file, with a write-ahead log and full synchronisation.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& path, bool read_only);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // Runs statements without parameters.
  absl::Status Execute(const char* sql);
  // Prepared once and kept; `sql` must be a literal.
  absl::StatusOr<Statement> Prepare(const char* sql);
  // Rows touched by the last INSERT, UPDATE or DELETE.
  int64_t Changes() const;
  // The status of a SQLite result code, with the file's name. A full or failing disk is RESOURCE_EXHAUSTED.
  absl::Status Error(int code, std::string_view what) const;

 private:
  Database(sqlite3* handle, std::string path) : handle_(handle), path_(std::move(path)) {}

  sqlite3* handle_;
  std::string path_;
  std::map<const char*, sqlite3_stmt*> statements_;
};

}  // namespace lockstep::store
