// SPDX-License-Identifier: Apache-2.0
#include "common/formats/fetch.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <sys/socket.h>

#include <atomic>
#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

// Answers GET on a free port of this machine.
class HttpServer {
 public:
  using Files = std::map<std::string, std::string>;

  explicit HttpServer(Files files) : files_(std::move(files)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    socklen_t size = sizeof(address);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    url_ = absl::StrCat("http://127.0.0.1:", ntohs(address.sin_port), "/");
    thread_ = std::thread([this] { Serve(); });
  }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  const std::string& url() const { return url_; }
  int requests() const { return requests_; }

 private:
  void Serve() {
    for (;;) {
      const int fd = accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      ++requests_;
      std::string request;
      char block[1024];
      while (request.find("\r\n\r\n") == std::string::npos) {
        const ssize_t n = recv(fd, block, sizeof(block), 0);
        if (n <= 0) break;
        request.append(block, static_cast<size_t>(n));
      }
      const std::string path = request.substr(5, request.find(' ', 5) - 5);
      const auto found = files_.find(path);
      const std::string body = found == files_.end() ? "not here" : found->second;
      const std::string answer =
          absl::StrCat("HTTP/1.1 ", found == files_.end() ? "404 Not Found" : "200 OK",
                       "\r\nConnection: close\r\nContent-Length: ", body.size(), "\r\n\r\n", body);
      send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
      close(fd);
    }
  }

  Files files_;
  int listener_ = -1;
  std::string url_;
  std::atomic<int> requests_ = 0;
  std::thread thread_;
};

PinnedFile Pinned(const std::string& name, const std::string& content) {
  return {name, Sha256(std::as_bytes(std::span(content))), static_cast<int64_t>(content.size())};
}

class FetchTest : public FolderTest {
 protected:
  size_t FilesIn(const std::string& name) {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(Path(name)), {}));
  }
};

TEST_F(FetchTest, BringsEachFileOnceAndTellsProgress) {
  HttpServer server({{"a.gz", "first"}, {"b.gz", "second"}});
  const std::vector<PinnedFile> files = {Pinned("a.gz", "first"), Pinned("b.gz", "second")};
  std::map<std::string, int64_t> told;
  const auto progress = [&](const std::string& name, int64_t done, int64_t) { told[name] = done; };
  ASSERT_TRUE(FetchFiles(files, {server.url()}, Path("x/d"), progress).ok());
  EXPECT_EQ(Slurp(Path("x/d/a.gz")), "first");
  EXPECT_EQ(Slurp(Path("x/d/b.gz")), "second");
  EXPECT_EQ(told["b.gz"], 6);
  EXPECT_EQ(FilesIn("x/d"), 2u);
  ASSERT_TRUE(FetchFiles(files, {server.url()}, Path("x/d")).ok());
  EXPECT_EQ(server.requests(), 2);
}

TEST_F(FetchTest, ADamagedFileIsFetchedAgain) {
  HttpServer server(HttpServer::Files{{"a", "right"}});
  Write("d/a", "wrong");
  ASSERT_TRUE(FetchFiles({Pinned("a", "right")}, {server.url()}, Path("d")).ok());
  EXPECT_EQ(Slurp(Path("d/a")), "right");
}

TEST_F(FetchTest, AnotherFileThanThePinnedOneIsRefused) {
  HttpServer server({{"a", "wrong"}, {"long", "much longer than it should be"}});
  const absl::Status status = FetchFiles({Pinned("a", "right")}, {server.url()}, Path("d"));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("not the expected file"));
  EXPECT_THAT(std::string(FetchFiles({Pinned("long", "short")}, {server.url()}, Path("d")).message()),
              HasSubstr("more than the 5 bytes"));
  EXPECT_EQ(FilesIn("d"), 0u);
}

TEST_F(FetchTest, TheNextMirrorIsTried) {
  HttpServer empty(HttpServer::Files{}), full(HttpServer::Files{{"a", "right"}});
  EXPECT_TRUE(FetchFiles({Pinned("a", "right")}, {empty.url(), full.url()}, Path("d")).ok());
  EXPECT_EQ(empty.requests(), 1);
}

TEST_F(FetchTest, WithoutANetworkTheErrorSaysWhatToDo) {
  std::string gone;
  { gone = HttpServer(HttpServer::Files{}).url(); }
  const absl::Status status = FetchMnist(Path("d"), nullptr, {gone});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot get train-images-idx3-ubyte.gz"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("by hand"));
}

TEST_F(FetchTest, TheRealMnistHasThePinnedHashes) {
  const char* data = std::getenv("LOCKSTEP_DATA_DIR");
  if (data == nullptr) GTEST_SKIP() << "LOCKSTEP_DATA_DIR is not set";
  for (const PinnedFile& file : MnistFiles()) {
    const std::filesystem::path path = std::filesystem::path(data) / "mnist" / file.name;
    EXPECT_EQ(Sha256File(path).value(), file.sha256);
    EXPECT_EQ(static_cast<int64_t>(std::filesystem::file_size(path)), file.bytes);
  }
}

}  // namespace
}  // namespace lockstep
