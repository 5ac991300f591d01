// Classifies the test images with the running deployment `digits`, draws some of them, and prints the
// accuracy. Shows the client library: requests in flight, inputs and outputs in place.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <deque>

#include "daemon/paths.hpp"
#include "daemon/tensor_file.hpp"
#include "ipc/client.hpp"

namespace {

using namespace opsplit;
using namespace std::chrono_literals;

constexpr std::size_t side = 8;
constexpr std::size_t pixels = side * side;
constexpr std::size_t classes = 10;
constexpr std::size_t in_flight = 8;
constexpr std::size_t drawn = 6;

struct Answer {
  std::size_t digit = 0;
  float probability = 0;
};

// Two image rows in one line of text: the colours of an upper half block are those of two pixels.
// Where there are no colours, a character stands for the two of them.
void draw_row(const std::uint8_t* image, std::size_t row, bool colours) {
  static constexpr std::string_view ramp = " .:-=+*#%@";
  const auto grey = [](int pixel) { return 232 + std::min(pixel, 16) * 23 / 16; };
  for (std::size_t column = 0; column < side; ++column) {
    const int upper = image[row * side + column];
    const int lower = image[(row + 1) * side + column];
    if (colours)
      fmt::print("\x1b[38;5;{}m\x1b[48;5;{}m▀▀", grey(upper), grey(lower));
    else
      fmt::print("{0}{0}", ramp[static_cast<std::size_t>(std::min(upper + lower, 32) * 9 / 32)]);
  }
  fmt::print("{}  ", colours ? "\x1b[0m" : "");
}

void draw(std::span<const std::uint8_t> images, std::span<const Answer> answers,
          std::span<const std::uint8_t> labels) {
  const bool colours = isatty(STDOUT_FILENO) == 1;
  for (std::size_t row = 0; row < side; row += 2) {
    for (std::size_t image = 0; image < answers.size(); ++image)
      draw_row(&images[image * pixels], row, colours);
    fmt::print("\n");
  }
  for (std::size_t image = 0; image < answers.size(); ++image)
    fmt::print(
        "{:<18}",
        fmt::format(
            "{} ({:.0f} %){}", answers[image].digit, 100 * answers[image].probability,
            answers[image].digit == labels[image] ? "" : fmt::format(", is {}", labels[image])));
  fmt::print("\n\n");
}

Result<Answer> take(ipc::Request& request) {
  OPSPLIT_CHECK(request.wait(10s));
  OPSPLIT_TRY(const ipc::OutputTensor output, request.output(0));
  const std::span probabilities(reinterpret_cast<const float*>(output.bytes.data()), classes);
  const auto best = std::max_element(probabilities.begin(), probabilities.end());
  return Answer{static_cast<std::size_t>(best - probabilities.begin()), *best};
}

Result<> classify(const std::filesystem::path& folder, const std::string& data) {
  OPSPLIT_TRY(const daemon::HostTensor images, daemon::read_tensor(data + "/test_images.npy"));
  OPSPLIT_TRY(const daemon::HostTensor labels, daemon::read_tensor(data + "/test_labels.npy"));
  if (images.type.dtype != uint8 || images.bytes.size() % pixels != 0 ||
      labels.type.dtype != uint8 || labels.bytes.size() != images.bytes.size() / pixels)
    return fail(ErrorCode::invalid_input, "{}: not the digits' test images", data);
  const std::span image_bytes(reinterpret_cast<const std::uint8_t*>(images.bytes.data()),
                              images.bytes.size());
  const std::span label_values(reinterpret_cast<const std::uint8_t*>(labels.bytes.data()),
                               labels.bytes.size());
  const std::size_t count = label_values.size();

  OPSPLIT_TRY(const auto client,
              ipc::Client::connect({(folder / "opsplitd.sock").string(), "digits"}));
  if (client->inputs().size() != 1 ||
      client->inputs()[0].type != TensorType{float32, {1, 1, 8, 8}} ||
      client->outputs()[0].type != TensorType{float32, {1, 10}})
    return fail(ErrorCode::invalid_input, "the deployment 'digits' is another model's");
  std::vector<Answer> answers;
  std::deque<ipc::Request> requests;
  const auto start = Clock::now();
  for (std::size_t sent = 0; answers.size() < count;) {
    if (sent < count && requests.size() < in_flight) {
      OPSPLIT_TRY(ipc::Request request, client->begin(10s));
      auto* input = reinterpret_cast<float*>(request.input(0).data());
      std::transform(&image_bytes[sent * pixels], &image_bytes[sent * pixels] + pixels, input,
                     [](std::uint8_t pixel) { return static_cast<float>(pixel) / 16.0f; });
      OPSPLIT_CHECK(request.submit());
      requests.push_back(std::move(request));
      ++sent;
    } else {
      OPSPLIT_TRY(const Answer answer, take(requests.front()));
      answers.push_back(answer);
      requests.pop_front();
    }
  }
  const std::chrono::duration<double> seconds = Clock::now() - start;

  std::size_t right = 0;
  for (std::size_t i = 0; i < count; ++i) right += answers[i].digit == label_values[i] ? 1 : 0;
  draw(image_bytes, std::span(answers).first(std::min(drawn, count)), label_values);
  fmt::print("{} images in {:.1f} ms, {} requests in flight\n", count, 1e3 * seconds.count(),
             in_flight);
  fmt::print("accuracy {:.1f} %\n",
             100.0 * static_cast<double>(right) / static_cast<double>(count));
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Classifies handwritten digits with the deployment `digits`, which must be up.");
  std::filesystem::path folder = daemon::default_folder();
  std::string data = OPSPLIT_DIGITS_DIR;
  app.add_option("--folder", folder, "Folder of opsplitd's socket")->capture_default_str();
  app.add_option("--data", data, "Folder of the test images")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (const auto result = classify(folder, data); !result) {
    fmt::print(stderr, "digits-classify: {}\n", result.error().message);
    return 1;
  }
  return 0;
}
