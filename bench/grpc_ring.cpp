// gRPC, without protobuf: messages are byte buffers that refer to the payload where it lies, and are
// read in the slices that they came in. Each side is one thread that drives its completion queue by
// itself: in the kernel until something happens, or asking again and again.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <bitset>
#include <optional>

#include "bench/payload.hpp"
#include "bench/ring.hpp"
#include "bench/rivals.hpp"

namespace opsplit::bench {
namespace {

struct Channel {
  Waiting waiting;
  bool tcp;
  bool streams;  // one call for all, else a call for each pair of hops
  Meeting meeting = {};
};

constexpr const char* method = "/opsplit.Tensors/Hop";

// Both sides: no limit, and frames and windows that a large message fits into.
template <class Set>
void tune(Set set) {
  constexpr int most = 16 << 20;
  set(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, -1);
  set(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1);
  set(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, most - 1);
  set(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, most);
  set(GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, most);
  set(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  set(GRPC_ARG_MINIMAL_STACK, 1);
}

// The operations of gRPC that this side waits for.
class Queue {
 public:
  enum Operation { start, read, write, finish };

  Queue(grpc::CompletionQueue& queue, Waiting waiting) : queue_(queue), waiting_(waiting) {}

  static void* tag(Operation operation) { return reinterpret_cast<void*>(operation + 1); }

  void wait(Operation operation) {
    while (!done_[operation]) next();
    done_.reset(operation);
  }

 private:
  void next() {
    void* tag = nullptr;
    bool ok = false;
    if (waiting_ == Waiting::sleeping) {
      if (!queue_.Next(&tag, &ok)) ok = false;
    } else {
      while (queue_.AsyncNext(&tag, &ok, gpr_time_0(GPR_CLOCK_MONOTONIC)) ==
             grpc::CompletionQueue::TIMEOUT) {
      }
    }
    if (!ok) throw std::runtime_error("the other side has ended the call");
    done_.set(reinterpret_cast<std::uintptr_t>(tag) - 1);
  }

  grpc::CompletionQueue& queue_;
  Waiting waiting_;
  std::bitset<4> done_;
};

// gRPC wants to see every operation end before it is destroyed.
void drain(grpc::CompletionQueue& queue) {
  queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue.Next(&tag, &ok)) {
  }
}

std::string address(const Channel& channel, int port) {
  return channel.tcp ? fmt::format("127.0.0.1:{}", port) : "unix-abstract:" + abstract_address();
}

// What both sides do with messages.
class Messages {
 public:
  explicit Messages(const Setting& setting) : payload_(setting) {}

  grpc::ByteBuffer next() {
    const auto bytes = payload_.next();
    const grpc::Slice slice(bytes.data(), bytes.size(), grpc::Slice::STATIC_SLICE);
    return {&slice, 1};
  }
  void take(grpc::ByteBuffer& message) {
    slices_.clear();
    if (!message.Dump(&slices_).ok()) throw std::runtime_error("a message without bytes");
    for (const grpc::Slice& slice : slices_)
      payload_.take({reinterpret_cast<const std::byte*>(slice.begin()), slice.size()});
    payload_.end();
    message.Clear();
  }

 private:
  Payload payload_;
  std::vector<grpc::Slice> slices_;
};

class Client {
 public:
  Client(const Setting& setting, Channel& channel)
      : messages_(setting), streams_(channel.streams), waits_(queue_, channel.waiting) {
    grpc::ChannelArguments arguments;
    tune([&](const char* name, int value) { arguments.SetInt(name, value); });
    stub_ = std::make_unique<grpc::GenericStub>(grpc::CreateCustomChannel(
        address(channel, channel.meeting.wait()), grpc::InsecureChannelCredentials(), arguments));
    if (!streams_) return;
    stream_ = stub_->PrepareCall(&context_.emplace(), method, &queue_);
    stream_->StartCall(Queue::tag(Queue::start));
    waits_.wait(Queue::start);
  }
  ~Client() { drain(queue_); }

  void send() {
    if (streams_) return stream_->Write(messages_.next(), Queue::tag(Queue::write));
    call_ = stub_->PrepareUnaryCall(&context_.emplace(), method, messages_.next(), &queue_);
    call_->StartCall();
    call_->Finish(&answer_, &status_, Queue::tag(Queue::finish));  // this is what sends it
  }
  void receive() {
    if (streams_) {
      stream_->Read(&answer_, Queue::tag(Queue::read));
      waits_.wait(Queue::read);
      waits_.wait(Queue::write);
    } else {
      waits_.wait(Queue::finish);
      if (!status_.ok()) throw std::runtime_error(status_.error_message());
    }
    messages_.take(answer_);
  }

 private:
  Messages messages_;
  bool streams_;
  grpc::CompletionQueue queue_;
  Queue waits_;
  std::unique_ptr<grpc::GenericStub> stub_;
  std::optional<grpc::ClientContext> context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> call_;
  grpc::ByteBuffer answer_;
  grpc::Status status_;
};

class Server {
 public:
  Server(const Setting& setting, Channel& channel) : messages_(setting), streams_(channel.streams) {
    grpc::ServerBuilder builder;
    int port = 0;
    tune([&](const char* name, int value) { builder.AddChannelArgument(name, value); });
    builder.AddListeningPort(address(channel, 0), grpc::InsecureServerCredentials(), &port);
    builder.RegisterAsyncGenericService(&service_);
    queue_ = builder.AddCompletionQueue();
    waits_.emplace(*queue_, channel.waiting);
    server_ = builder.BuildAndStart();
    if (!server_) throw std::runtime_error("gRPC cannot listen at " + address(channel, 0));
    expect_call();
    channel.meeting.listening(port);
  }
  ~Server() {
    server_->Shutdown(std::chrono::system_clock::now());
    drain(*queue_);
  }

  void receive() {
    if (!current_ || !streams_) {
      waits_->wait(Queue::start);
      current_ = std::move(expected_);
      expect_call();  // the next one finds its place
    }
    grpc::ByteBuffer message;
    current_->stream.Read(&message, Queue::tag(Queue::read));
    waits_->wait(Queue::read);
    if (streams_ && sent_) waits_->wait(Queue::write);
    messages_.take(message);
  }
  void send() {
    if (streams_) {
      current_->stream.Write(messages_.next(), Queue::tag(Queue::write));
      sent_ = true;
      return;
    }
    current_->stream.WriteAndFinish(messages_.next(), {}, grpc::Status::OK,
                                    Queue::tag(Queue::finish));
    waits_->wait(Queue::finish);
  }

 private:
  struct Call {
    grpc::GenericServerContext context;
    grpc::GenericServerAsyncReaderWriter stream{&context};
  };
  void expect_call() {
    expected_ = std::make_unique<Call>();
    service_.RequestCall(&expected_->context, &expected_->stream, queue_.get(), queue_.get(),
                         Queue::tag(Queue::start));
  }

  Messages messages_;
  bool streams_;
  bool sent_ = false;
  grpc::AsyncGenericService service_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::optional<Queue> waits_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Call> expected_, current_;
};

class GrpcLink {
 public:
  using Memory = Channel;
  static Result<std::unique_ptr<GrpcLink>> open(const Setting& setting, int index, Memory& memory) {
    return std::make_unique<GrpcLink>(setting, index, memory);
  }
  GrpcLink(const Setting& setting, int index, Memory& memory) {
    if (index == 0)
      client_ = std::make_unique<Client>(setting, memory);
    else
      server_ = std::make_unique<Server>(setting, memory);
  }
  void send() {
    if (client_)
      client_->send();
    else
      server_->send();
  }
  void receive() {
    if (client_)
      client_->receive();
    else
      server_->receive();
  }

 private:
  std::unique_ptr<Client> client_;
  std::unique_ptr<Server> server_;
};

}  // namespace

std::string grpc_version() { return grpc::Version(); }

std::vector<Rival> grpc_rivals() {
  std::vector<Rival> rivals;
  for (const bool streams : {false, true})
    for (const bool tcp : {true, false})
      for (const Waiting waiting : {Waiting::spinning, Waiting::sleeping})
        rivals.push_back(
            {"gRPC",
             fmt::format("{}, {}", streams ? "stream" : "unary", tcp ? "TCP" : "Unix socket"),
             waiting, [=](const Setting& setting) {
               return Ring<GrpcLink>::start_with(setting, waiting, tcp, streams);
             }});
  return rivals;
}

}  // namespace opsplit::bench
