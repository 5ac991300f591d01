#include "ipc/weight_store.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <thread>
#include <vector>

#include "base/system.hpp"
#include "tests/ipc/other_process.hpp"
#include "tests/private_namespace.hpp"

namespace opsplit::ipc {
namespace {

using test::names_in;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

struct WeightStoreTest : testing::Test {
  WeightStoreTest() { static_cast<void>(WeightStore::remove(path)); }
  ~WeightStoreTest() override { static_cast<void>(WeightStore::remove(path)); }
  const std::filesystem::path path = "/dev/shm/opsplit.weight_store_test.1";
};

// Bytes that follow from the key, so that a mix-up shows.
Result<> fill_with(std::byte* data, std::uint64_t bytes, std::uint64_t seed) {
  for (std::uint64_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(seed * 31 + i * 7);
  return {};
}

bool is_filled_with(std::span<const std::byte> data, std::uint64_t seed) {
  for (std::uint64_t i = 0; i < data.size(); ++i)
    if (data[i] != static_cast<std::byte>(seed * 31 + i * 7)) return false;
  return true;
}

std::filesystem::path packed_file(const std::filesystem::path& folder) {
  for (const auto& name : names_in(folder))
    if (name.starts_with("packed-")) return folder / name;
  return {};
}

TEST_F(WeightStoreTest, IsMadeOnceAndRemoved) {
  {
    const auto store = WeightStore::create(path);
    ASSERT_TRUE(store) << store.error().message;
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0700u);
    const auto second = WeightStore::create(path);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::already_exists);
    EXPECT_THAT(second.error().message, HasSubstr(std::to_string(::getpid())));
    EXPECT_TRUE(WeightStore::open(path));
  }
  std::ofstream(path / "left over") << "x";
  std::filesystem::create_directory(path / "folder");
  ASSERT_TRUE(WeightStore::create(path));  // nobody holds it any more
  EXPECT_THAT(names_in(path), ElementsAre("lock"));
  EXPECT_TRUE(WeightStore::remove(path));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(WeightStore::remove(path));
  EXPECT_EQ(WeightStore::open(path).error().code, ErrorCode::not_found);
}

TEST_F(WeightStoreTest, WhatIsNotItsFolderIsLeftAlone) {
  const std::filesystem::path elsewhere = "/dev/shm/opsplit.weight_store_test.elsewhere";
  std::filesystem::create_directory(elsewhere);
  std::ofstream(elsewhere / "precious") << "x";
  std::filesystem::create_symlink(elsewhere, path);
  EXPECT_EQ(WeightStore::create(path).error().code, ErrorCode::already_exists);
  EXPECT_EQ(WeightStore::remove(path).error().code, ErrorCode::refused);
  EXPECT_EQ(WeightStore::open(path).error().code, ErrorCode::not_found);
  EXPECT_TRUE(std::filesystem::exists(elsewhere / "precious"));
  std::filesystem::remove(path);
  std::filesystem::create_symlink(elsewhere / "precious", elsewhere / "link");
  ASSERT_TRUE(WeightStore::create(path));
  std::filesystem::create_symlink(elsewhere, path / "link");
  ASSERT_TRUE(WeightStore::remove(path));
  EXPECT_TRUE(std::filesystem::exists(elsewhere / "precious"));
  std::filesystem::remove_all(elsewhere);
}

TEST_F(WeightStoreTest, PacksOnceForAll) {
  auto owner = WeightStore::create(path);
  ASSERT_TRUE(owner);
  int filled = 0;
  const auto fill = [&filled](std::byte* data) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 64, 0u);
    EXPECT_EQ(data[0], std::byte{0});
    ++filled;
    return fill_with(data, 100'000, 7);
  };
  const auto first = owner->packed("conv1/weights nchw16c", 100'000, fill);
  ASSERT_TRUE(first) << first.error().message;
  auto other = WeightStore::open(path);
  const auto second = other->packed("conv1/weights nchw16c", 100'000, fill);
  const auto again = other->packed("conv1/weights nchw16c", 100'000, fill);
  ASSERT_TRUE(second);
  EXPECT_EQ(filled, 1);
  EXPECT_TRUE(is_filled_with(*first, 7));
  EXPECT_TRUE(is_filled_with(*second, 7));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(second->data()) % 64, 0u);
  EXPECT_EQ(second->size(), 100'000u);
  EXPECT_EQ(again->data(), second->data());
  EXPECT_THAT(names_in(path), ElementsAre("lock", StartsWith("packed-")));
  // content_hash() of the key.
  ASSERT_TRUE(owner->packed("abc", 1, [](std::byte*) -> Result<> { return {}; }));
  EXPECT_TRUE(std::filesystem::exists(path / "packed-06b05ab6733a618578af5f94892f3950"));
}

TEST_F(WeightStoreTest, StaysMappedAfterItWasRemoved) {
  auto store = WeightStore::create(path);
  const auto data = store->packed("k", 5000, [](std::byte* to) { return fill_with(to, 5000, 1); });
  ASSERT_TRUE(data);
  ASSERT_TRUE(WeightStore::remove(path));
  EXPECT_TRUE(is_filled_with(*data, 1));
}

TEST_F(WeightStoreTest, IsReadOnly) {
  auto store = WeightStore::create(path);
  const auto data = store->packed("k", 64, [](std::byte* to) { return fill_with(to, 64, 1); });
  ASSERT_TRUE(data);
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    const_cast<volatile std::byte*>(data->data())[0] = std::byte{1};
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_NE(status, 0);
}

TEST_F(WeightStoreTest, OddSizesAndKeys) {
  auto store = WeightStore::create(path);
  for (const std::uint64_t bytes : {0, 1, 63, 64, 65, 4095, 4096, 4097})
    for (const std::size_t length : {0, 1, 31, 32, 33, 4096}) {
      const auto key = std::to_string(bytes).append(length, 'k').substr(0, max_key_bytes);
      const auto data =
          store->packed(key, bytes, [bytes](std::byte* to) { return fill_with(to, bytes, bytes); });
      ASSERT_TRUE(data) << data.error().message;
      EXPECT_EQ(data->size(), bytes);
      EXPECT_TRUE(is_filled_with(*data, bytes));
    }
}

TEST_F(WeightStoreTest, ImpossibleSizesAreRefused) {
  auto store = WeightStore::create(path);
  const auto never = [](std::byte*) -> Result<> {
    ADD_FAILURE() << "must not be called";
    return {};
  };
  for (const std::uint64_t bytes :
       {std::numeric_limits<std::uint64_t>::max(), std::numeric_limits<std::uint64_t>::max() - 64,
        std::uint64_t{1} << 63, std::uint64_t{1} << 62, std::uint64_t{1} << 61}) {
    const auto data = store->packed("k", bytes, never);
    ASSERT_FALSE(data);
    EXPECT_EQ(data.error().code, ErrorCode::limit_exceeded) << data.error().message;
  }
  EXPECT_EQ(store->packed(std::string(4097, 'k'), 1, never).error().code,
            ErrorCode::limit_exceeded);
  EXPECT_THAT(names_in(path), ElementsAre("lock"));
}

TEST_F(WeightStoreTest, FullFileSystemIsRefusedInBytes) {
  if (!test::in_private_namespace()) GTEST_SKIP() << "needs a private /dev/shm";
  ASSERT_EQ(::mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1048576"), 0);
  Result<std::span<const std::byte>> refused, fits;
  {
    auto store = WeightStore::create(path);
    const auto nothing = [](std::byte*) -> Result<> { return {}; };
    refused = store->packed("k", 2u << 20, nothing);
    fits = store->packed("k", 1u << 19, nothing);
  }
  ASSERT_EQ(::umount2("/dev/shm", MNT_DETACH), 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::limit_exceeded);
  EXPECT_THAT(refused.error().message, HasSubstr("need 2097280 bytes"));
  EXPECT_THAT(refused.error().message, HasSubstr("are free"));
  EXPECT_TRUE(fits);  // the first one has left nothing
}

TEST_F(WeightStoreTest, AnotherSizeUnderAKnownKeyIsRefused) {
  auto store = WeightStore::create(path);
  const auto nothing = [](std::byte*) -> Result<> { return {}; };
  ASSERT_TRUE(store->packed("k", 100, nothing));
  EXPECT_EQ(store->packed("k", 101, nothing).error().code, ErrorCode::refused);
  EXPECT_EQ(WeightStore::open(path)->packed("k", 5000, nothing)->size(), 5000U);  // it is made anew
}

TEST_F(WeightStoreTest, FindsWhatIsThereWhateverItsSize) {
  auto store = WeightStore::create(path);
  ASSERT_TRUE(store->packed("k", 100, [](std::byte* to) { return fill_with(to, 100, 5); }));
  auto other = WeightStore::open(path);
  const auto found = other->find("k");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->size(), 100U);
  EXPECT_TRUE(is_filled_with(*found, 5));
  EXPECT_EQ(other->location_of("k").file, packed_file(path));
  EXPECT_FALSE(other->find("another"));
}

TEST_F(WeightStoreTest, DamagedFilesAreMadeAnew) {
  auto owner = WeightStore::create(path);
  for (const std::uint64_t bytes : {100, 200'000}) {  // read, mapped
    const auto fill = [bytes](std::byte* to) { return fill_with(to, bytes, 9); };
    ASSERT_TRUE(owner->packed(std::to_string(bytes), bytes, fill));
    const auto file = owner->location_of(std::to_string(bytes)).file;
    const std::string good = read_file(file).value();
    int filled = 0;
    const auto with = [&](const std::string& content) {
      std::filesystem::remove(file);
      std::ofstream(file, std::ios::binary) << content;
      filled = 0;
      EXPECT_EQ(WeightStore::open(path)->find(std::to_string(bytes)).has_value(), content == good);
      auto store = WeightStore::open(path);
      const auto data = store->packed(std::to_string(bytes), bytes, [&](std::byte* to) {
        ++filled;
        return fill(to);
      });
      EXPECT_TRUE(data && is_filled_with(*data, 9));
      EXPECT_EQ(read_file(file).value(), good);
    };
    with(good);
    EXPECT_EQ(filled, 0);
    for (const std::string& bad :
         {std::string(), good.substr(0, 40), good.substr(0, good.size() - 1), good + "x",
          std::string(good.size(), '\0'),
          good.substr(0, good.size() / 2) + std::string(good.size() - good.size() / 2, '\0')}) {
      with(bad);
      EXPECT_EQ(filled, 1);
    }
    for (std::size_t i = 0; i < sizeof(PackedHeader) + 3; ++i) {  // header and key
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 0x40);
      with(bad);
      ASSERT_EQ(filled, 1) << i;
    }
  }
}

TEST_F(WeightStoreTest, WhatIsNoFileIsReplacedOrRefused) {
  auto owner = WeightStore::create(path);
  const auto nothing = [](std::byte*) -> Result<> { return {}; };
  ASSERT_TRUE(owner->packed("key", 100, nothing));
  const auto file = packed_file(path);
  std::filesystem::remove(file);
  std::filesystem::create_symlink("/etc/passwd", file);
  EXPECT_TRUE(WeightStore::open(path)->packed("key", 100, nothing));
  EXPECT_FALSE(std::filesystem::is_symlink(file));
  EXPECT_TRUE(std::filesystem::exists("/etc/passwd"));
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  EXPECT_FALSE(WeightStore::open(path)->packed("key", 100, nothing));
  std::filesystem::remove(file);
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  EXPECT_TRUE(WeightStore::open(path)->packed("key", 100, nothing));
}

TEST_F(WeightStoreTest, RacingProcessesShareOneFile) {
  auto owner = WeightStore::create(path);
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    const pid_t child = ::fork();
    if (child != 0) {
      children.push_back(child);
      continue;
    }
    auto store = WeightStore::open(path);
    bool good = store.has_value();
    for (std::uint64_t key = 0; key < 40 && good; ++key) {
      const auto data = store->packed(std::to_string(key), 20'000 + key, [key](std::byte* to) {
        return fill_with(to, 20'000 + key, key);
      });
      good = data && is_filled_with(*data, key);
    }
    ::_exit(good ? 0 : 1);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(names_in(path).size(), 41u);
}

TEST_F(WeightStoreTest, ThreadsShareOneStore) {
  auto store = WeightStore::create(path);
  std::atomic<int> filled{0}, good{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (std::uint64_t key = 0; key < 50; ++key) {
        const auto data = store->packed(std::to_string(key), 1000, [&filled, key](std::byte* to) {
          ++filled;
          return fill_with(to, 1000, key);
        });
        if (data && is_filled_with(*data, key)) ++good;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(filled, 50);
  EXPECT_EQ(good, 200);
}

TEST_F(WeightStoreTest, WriterThatIsKilledOrFailsLeavesNothing) {
  auto owner = WeightStore::create(path);
  const auto free_before = free_bytes(path).value();
  for (int i = 0; i < 20; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto store = WeightStore::open(path);
      static_cast<void>(store->packed("k", 1u << 20, [](std::byte* to) {
        to[0] = std::byte{1};
        ::kill(::getpid(), SIGKILL);
        return Result<>();
      }));
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_EQ(WTERMSIG(status), SIGKILL);
  }
  const auto failed = owner->packed("k", 1u << 20, [](std::byte*) -> Result<> {
    return fail(ErrorCode::invalid_input, "no such format");
  });
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message, "no such format");
  EXPECT_THAT(names_in(path), ElementsAre("lock"));
  EXPECT_TRUE(!test::in_private_namespace() || free_bytes(path).value() == free_before);
  const auto data =
      owner->packed("k", 1u << 20, [](std::byte* to) { return fill_with(to, 1u << 20, 3); });
  ASSERT_TRUE(data);
  EXPECT_TRUE(is_filled_with(*data, 3));
}

struct WeightCacheTest : WeightStoreTest {
  WeightCacheTest() {
    std::filesystem::remove_all(cache);
    std::filesystem::create_directory(cache);
  }
  ~WeightCacheTest() override { std::filesystem::remove_all(cache); }

  // How often it had to be filled.
  int pack(const std::string& key, std::uint64_t bytes = 1000) {
    int filled = 0;
    auto store = WeightStore::open(path, cache);
    const auto data = store->packed(key, bytes, [&](std::byte* to) {
      ++filled;
      return fill_with(to, bytes, key.size());
    });
    EXPECT_TRUE(data && is_filled_with(*data, key.size()));
    return filled;
  }

  const std::filesystem::path cache = "/dev/shm/opsplit.weight_store_test.cache";
};

TEST_F(WeightCacheTest, OutlastsDeployments) {
  for (int deployment = 0; deployment < 2; ++deployment) {
    auto owner = WeightStore::create(path, cache);
    EXPECT_EQ(pack("k"), deployment == 0 ? 1 : 0);
    EXPECT_EQ(pack("k"), 0);
    EXPECT_THAT(names_in(path), ElementsAre("lock"));
    ASSERT_TRUE(WeightStore::remove(path));
  }
  EXPECT_THAT(names_in(cache), ElementsAre(StartsWith("packed-")));
}

TEST_F(WeightCacheTest, WhatItCanNotTakeLiesInTheDeploymentsFolder) {
  auto owner = WeightStore::create(path, cache);
  std::filesystem::remove(cache);
  EXPECT_EQ(pack("k"), 1);
  EXPECT_EQ(pack("k"), 0);
  EXPECT_FALSE(std::filesystem::exists(cache));
  EXPECT_EQ(names_in(path).size(), 2U);
  auto store = WeightStore::open(path, cache);
  EXPECT_TRUE(store->find("k"));
  int filled = 0;
  const auto failed = store->packed("other", 10, [&](std::byte*) -> Result<> {
    ++filled;
    return fail(ErrorCode::invalid_input, "no such format");
  });
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message, "no such format");
}

TEST_F(WeightCacheTest, FullDiskIsNoError) {
  if (!test::in_private_namespace()) GTEST_SKIP() << "needs to mount";
  ASSERT_EQ(::mount("tmpfs", cache.c_str(), "tmpfs", 0, "size=1048576"), 0);
  auto owner = WeightStore::create(path, cache);
  EXPECT_EQ(pack("large", 2 << 20), 1);
  EXPECT_EQ(pack("small"), 1);
  EXPECT_EQ(names_in(cache).size(), 1U);
  EXPECT_EQ(names_in(path).size(), 2U);
  EXPECT_EQ(pack("large", 2 << 20), 0);
  ASSERT_EQ(::umount2(cache.c_str(), MNT_DETACH), 0);
}

TEST_F(WeightCacheTest, PruningRemovesWhatWasNotUsedForLongest) {
  auto owner = WeightStore::create(path, cache);
  const auto file_of = [&](const std::string& key) {
    auto store = WeightStore::open(path, cache);
    EXPECT_TRUE(store->find(key));
    return store->location_of(key).file;
  };
  std::map<std::string, std::filesystem::path> files;
  std::time_t used = 1'000'000'000;
  for (const std::string key : {"held", "first", "second", "used again", "third"}) {
    pack(key, 10'000);
    files[key] = file_of(key);
    const timespec time{used++, 0};
    const std::array<timespec, 2> times{time, time};
    ASSERT_EQ(::utimensat(AT_FDCWD, files[key].c_str(), times.data(), 0), 0);
  }
  std::ofstream(cache / "not ours") << "x";
  const auto held = hold_packed(files["held"]);
  ASSERT_TRUE(held);
  EXPECT_EQ(pack("used again", 10'000), 0);
  prune_packed(cache, packed_bytes(cache));
  EXPECT_EQ(names_in(cache).size(), 6U);
  prune_packed(cache, packed_bytes(cache) / 5 * 3);
  for (const auto& [key, file] : files)
    EXPECT_EQ(std::filesystem::exists(file), key != "first" && key != "second") << key;
  prune_packed(cache, 0);
  for (const auto& [key, file] : files)
    EXPECT_EQ(std::filesystem::exists(file), key == "held") << key;
  EXPECT_TRUE(std::filesystem::exists(cache / "not ours"));
  EXPECT_EQ(hold_packed(files["first"]).error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace opsplit::ipc
