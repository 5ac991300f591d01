#include "daemon/table.hpp"

#include <algorithm>
#include <cctype>
#include <string_view>

namespace opsplit::daemon {
namespace {

// UTF-8 characters: every byte but those that continue one.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

// A number, and behind it no more than a unit: "1.5", "-3", "1,024", "12 MiB", "1.02x", "97.8 %".
bool is_numeric(std::string_view cell) {
  if (cell.starts_with('-') || cell.starts_with('+')) cell.remove_prefix(1);
  if (cell.empty() || !is_digit(cell.front())) return false;
  const std::size_t number = std::min(cell.find_first_not_of("0123456789.,"), cell.size());
  std::string_view unit = cell.substr(number);
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  return std::none_of(unit.begin(), unit.end(),
                      [](char c) { return is_digit(c) || c == ' ' || c == '-' || c == ':'; });
}

std::string clean(std::string cell) {
  std::replace_if(
      cell.begin(), cell.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return cell;
}

struct Column {
  std::size_t width = 0;
  bool has_number = false;
  bool has_text = false;

  [[nodiscard]] bool to_the_right() const { return has_number && !has_text; }
};

}  // namespace

std::string render_table(std::span<const std::vector<std::string>> rows) {
  std::vector<Column> columns;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    columns.resize(std::max(columns.size(), rows[row].size()));
    for (std::size_t i = 0; i < rows[row].size(); ++i) {
      const std::string& cell = rows[row][i];
      columns[i].width = std::max(columns[i].width, width(cell));
      if (row == 0 || cell.empty() || cell == "-") continue;
      (is_numeric(cell) ? columns[i].has_number : columns[i].has_text) = true;
    }
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(columns[i].width - width(row[i]), ' ');
      if (i > 0) line += "  ";
      line += columns[i].to_the_right() ? padding + clean(row[i]) : clean(row[i]) + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
  return text;
}

}  // namespace opsplit::daemon
