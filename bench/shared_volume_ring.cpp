// Files in a folder that both containers mount. Each is written whole under a temporary name, then
// renamed into the receiver's inbox, which inotify watches; reading its events sleeps or does not
// (trying to open the file until it is there would slow the writer down). The file is removed once it
// is open: renaming over an old one would make some file systems write the new one to the disk first.
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/statfs.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <system_error>

#include "bench/payload.hpp"
#include "bench/ring.hpp"
#include "bench/rivals.hpp"

namespace opsplit::bench {
namespace {

namespace fs = std::filesystem;

// What is larger is mapped rather than read: no copy, but a system call and faults more.
constexpr std::size_t largest_read = 64 << 10;

struct Volume {
  Volume(const char* path, Waiting waits) : waiting(waits) {
    std::snprintf(folder.data(), folder.size(), "%s", path);
    std::error_code found_by_the_members;
    for (const char* inbox : {"inbox0", "inbox1"})
      fs::create_directories(fs::path(path) / inbox, found_by_the_members);
  }
  ~Volume() {
    std::error_code ignored;
    fs::remove_all(folder.data(), ignored);
  }

  std::array<char, PATH_MAX> folder;
  Waiting waiting;
};

// What a system call returned for the path.
template <class Number>
Number checked(Number result, const fs::path& path) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), path);
  return result;
}

class FileLink {
 public:
  using Memory = Volume;
  static Result<std::unique_ptr<FileLink>> open(const Setting& setting, int index, Memory& memory) {
    return std::make_unique<FileLink>(setting, index, memory);
  }
  FileLink(const Setting& setting, int index, const Memory& memory) : payload_(setting) {
    const fs::path folder = memory.folder.data();
    const fs::path inbox = folder / fmt::format("inbox{}", index);
    const fs::path next = folder / fmt::format("inbox{}", (index + 1) % setting.processes);
    incoming_ = inbox / "payload";
    outgoing_ = next / "payload";
    written_ = folder / fmt::format("written{}", index);
    if (setting.payload <= largest_read) received_.resize(setting.payload);
    const int flags = IN_CLOEXEC | (memory.waiting == Waiting::spinning ? IN_NONBLOCK : 0);
    events_ = FileDescriptor(checked(::inotify_init1(flags), "inotify"));
    checked(::inotify_add_watch(events_.get(), inbox.c_str(), IN_MOVED_TO), inbox);
  }

  void send() {
    {
      const FileDescriptor file(checked(
          ::open(written_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), written_));
      for (auto rest = payload_.next(); !rest.empty();) {
        const ssize_t written = checked(::write(file.get(), rest.data(), rest.size()), written_);
        rest = rest.subspan(static_cast<std::size_t>(written));
      }
    }
    checked(::rename(written_.c_str(), outgoing_.c_str()), outgoing_);
  }

  void receive() {
    wait();
    const FileDescriptor file(checked(::open(incoming_.c_str(), O_RDONLY | O_CLOEXEC), incoming_));
    checked(::unlink(incoming_.c_str()), incoming_);
    if (!received_.empty()) {
      const ssize_t got =
          checked(::read(file.get(), received_.data(), received_.size()), incoming_);
      payload_.take(std::span(received_).first(static_cast<std::size_t>(got)));
    } else {
      void* mapped = ::mmap(nullptr, payload_.size(), PROT_READ, MAP_SHARED, file.get(), 0);
      checked(mapped == MAP_FAILED ? -1 : 0, incoming_);
      payload_.take({static_cast<const std::byte*>(mapped), payload_.size()});
      ::munmap(mapped, payload_.size());
    }
    payload_.end();
  }

 private:
  // Until the inbox says that something was renamed into it.
  void wait() const {
    alignas(inotify_event) std::array<char, sizeof(inotify_event) + NAME_MAX + 1> event;
    while (::read(events_.get(), event.data(), event.size()) < 0)
      if (errno != EAGAIN) checked(-1, incoming_);
  }

  Payload payload_;
  fs::path incoming_, outgoing_, written_;
  FileDescriptor events_;
  std::vector<std::byte> received_;
};

bool lies_in_memory(const fs::path& folder) {
  struct statfs system {};
  return ::statfs(folder.c_str(), &system) == 0 && system.f_type == TMPFS_MAGIC;
}

}  // namespace

std::vector<Rival> shared_volume_rivals(const fs::path& memory, const fs::path& disk) {
  std::vector<Rival> rivals;
  const auto add = [&](const std::string& variant, const fs::path& folder) {
    for (const Waiting waiting : {Waiting::spinning, Waiting::sleeping})
      rivals.push_back({"shared volume", variant, waiting, [=](const Setting& setting) {
                          return Ring<FileLink>::start_with(setting, folder.c_str(), waiting);
                        }});
  };
  add("tmpfs", memory);
  if (!lies_in_memory(disk.parent_path())) add("disk", disk);
  return rivals;
}

}  // namespace opsplit::bench
