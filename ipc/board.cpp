#include "ipc/board.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>

#include <boost/interprocess/mapped_region.hpp>
#include <boost/interprocess/shared_memory_object.hpp>
#include <filesystem>
#include <new>

namespace opsplit::ipc {
namespace {

namespace bip = boost::interprocess;

// Appends `count` records of `size` bytes on a cache line of their own; false on overflow.
bool append(std::uint64_t& end, std::uint64_t count, std::uint64_t size, std::uint64_t& offset) {
  std::uint64_t bytes = 0;
  if (__builtin_add_overflow(end, 127, &end)) return false;
  end &= ~std::uint64_t{127};
  offset = end;
  return !__builtin_mul_overflow(count, size, &bytes) && !__builtin_add_overflow(end, bytes, &end);
}

std::filesystem::path path_of(const std::string& name) { return "/dev/shm/" + name; }

}  // namespace

Result<BoardLayout> BoardLayout::of(const Plan& plan, std::uint32_t depth,
                                    std::uint32_t participants) {
  if (depth == 0 || depth > max_depth)
    return fail(ErrorCode::limit_exceeded, "a depth of {}: must be 1 to {}", depth, max_depth);
  if (participants == 0)
    return fail(ErrorCode::invalid_input, "a board without room for participants");
  BoardLayout layout;
  layout.depth = depth;
  layout.tasks = static_cast<std::uint32_t>(plan.tasks.size());
  layout.tensors = static_cast<std::uint32_t>(plan.tensors.size());
  layout.operators = static_cast<std::uint32_t>(plan.operators.size());
  layout.participants = participants;
  layout.plan_digest = digest(plan);
  std::uint64_t end = sizeof(BoardHeader);
  bool fits = append(end, cpu_records, sizeof(CpuRecord), layout.cpus) &&
              append(end, depth, sizeof(SlotRecord), layout.slots) &&
              append(end, layout.operators, sizeof(Doorbell), layout.doorbells);
  for (const PlannedOperator& op : plan.operators) {
    const auto words = static_cast<std::uint32_t>((op.tasks.size() + 63) / 64);
    layout.hint_words.push_back(words);
    fits = fits && append(end, std::uint64_t{depth} * words, sizeof(std::uint64_t),
                          layout.hints.emplace_back());
  }
  fits =
      fits &&
      append(end, std::uint64_t{depth} * layout.tasks, sizeof(TaskRecord), layout.task_records) &&
      append(end, std::uint64_t{depth} * layout.tensors, sizeof(SharedHeader), layout.headers) &&
      append(end, participants, sizeof(Participant), layout.participant_records) &&
      append(end, participants, sizeof(Durations), layout.durations);
  if (!fits) return fail(ErrorCode::limit_exceeded, "the board's size overflows");
  layout.total_bytes = end;
  return layout;
}

struct Board::Mapping {
  bip::mapped_region region;
};

Board::Board(std::unique_ptr<Mapping> mapping, BoardLayout layout)
    : mapping_(std::move(mapping)),
      layout_(std::move(layout)),
      base_(static_cast<std::byte*>(mapping_->region.get_address())) {
  // A forked child must not be able to act on words under its parent's launch number.
  madvise(base_, layout_.total_bytes, MADV_DONTFORK);
}

Board::Board(Board&&) noexcept = default;
Board& Board::operator=(Board&&) noexcept = default;
Board::~Board() = default;

Result<Board> Board::create(const std::string& name, const BoardLayout& layout,
                            std::uint64_t epoch) try {
  if (std::filesystem::exists(path_of(name)))
    return fail(ErrorCode::already_exists, "/dev/shm/{} exists", name);
  const std::string temporary = name + ".new";
  bip::shared_memory_object::remove(temporary.c_str());
  bip::shared_memory_object memory(bip::create_only, temporary.c_str(), bip::read_write,
                                   bip::permissions(0600));
  // Reserve the pages now: a tmpfs that runs full later would answer with SIGBUS.
  const int error = posix_fallocate(memory.get_mapping_handle().handle, 0,
                                    static_cast<off_t>(layout.total_bytes));
  if (error != 0) {
    struct statvfs room {};
    statvfs("/dev/shm", &room);
    bip::shared_memory_object::remove(temporary.c_str());
    if (error != ENOSPC) return fail_errno(error, "/dev/shm/{}", temporary);
    return fail(ErrorCode::limit_exceeded,
                "/dev/shm is too small: the board needs {} bytes, {} are free", layout.total_bytes,
                std::uint64_t{room.f_bavail} * room.f_frsize);
  }
  auto mapping = std::make_unique<Mapping>();
  mapping->region = bip::mapped_region(memory, bip::read_write, 0, layout.total_bytes);
  Board board(std::move(mapping), layout);
  // The file is new, so all words are zero; what must not be zero is written here.
  BoardHeader& header = board.header();
  header.magic = BoardHeader::expected_magic;
  header.version = BoardHeader::expected_version;
  header.depth = layout.depth;
  header.total_bytes = layout.total_bytes;
  header.plan_digest = layout.plan_digest;
  header.epoch = epoch;
  header.participants = layout.participants;
  for (std::uint32_t slot = 0; slot < layout.depth; ++slot) {
    board.slot(slot).word.store(SlotWord{1, SlotState::free, 0}.pack());
    for (std::uint32_t task = 0; task < layout.tasks; ++task)
      board.task(slot, task).word.store(TaskWord{1, TaskState::waiting, 0, 0}.pack());
  }
  std::filesystem::rename(path_of(temporary), path_of(name));
  return board;
} catch (const std::exception& error) {
  remove(name + ".new");
  return fail(ErrorCode::system, "board /dev/shm/{}: {}", name, error.what());
}

Result<Board> Board::open(const std::string& name, const BoardLayout& layout,
                          std::uint64_t epoch) try {
  bip::shared_memory_object memory(bip::open_only, name.c_str(), bip::read_write);
  bip::offset_t size = 0;
  if (!memory.get_size(size) || static_cast<std::uint64_t>(size) < layout.total_bytes)
    return fail(ErrorCode::refused, "board /dev/shm/{}: {} bytes, this plan needs {}", name, size,
                layout.total_bytes);
  auto mapping = std::make_unique<Mapping>();
  mapping->region = bip::mapped_region(memory, bip::read_write, 0, layout.total_bytes);
  Board board(std::move(mapping), layout);
  const BoardHeader& header = board.header();
  if (header.magic != BoardHeader::expected_magic ||
      header.version != BoardHeader::expected_version)
    return fail(ErrorCode::refused, "board /dev/shm/{}: made by another opsplit version", name);
  if (header.depth != layout.depth || header.total_bytes != layout.total_bytes ||
      header.plan_digest != layout.plan_digest || header.participants != layout.participants ||
      header.epoch != epoch)
    return fail(ErrorCode::refused, "board /dev/shm/{}: made for another plan or epoch", name);
  return board;
} catch (const bip::interprocess_exception& error) {
  return fail(ErrorCode::not_found, "board /dev/shm/{}: {}", name, error.what());
}

void Board::remove(const std::string& name) { bip::shared_memory_object::remove(name.c_str()); }

}  // namespace opsplit::ipc
