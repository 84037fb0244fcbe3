// A function in C++ with no library but the system's: it speaks the Lambda Runtime API over one socket.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace {

const std::string kPath = "/2018-06-01/runtime/invocation/";

int Connect(const std::string& api) {
  const auto colon = api.rfind(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(api.substr(colon + 1))));
  inet_pton(AF_INET, api.substr(0, colon).c_str(), &address.sin_addr);
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) throw std::runtime_error("connect");
  return connection;
}

void Send(int connection, const std::string& text) {
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t size = write(connection, text.data() + sent, text.size() - sent);
    if (size <= 0) throw std::runtime_error("write");
    sent += static_cast<size_t>(size);
  }
}

void ReadMore(int connection, std::string& text) {
  char buffer[65536];
  const ssize_t size = read(connection, buffer, sizeof buffer);
  // The agent has ended.
  if (size <= 0) std::exit(0);
  text.append(buffer, static_cast<size_t>(size));
}

std::string Header(const std::string& head, const std::string& name) {
  const auto start = head.find(name + ": ");
  if (start == std::string::npos) return "";
  const auto value = start + name.size() + 2;
  return head.substr(value, head.find("\r\n", value) - value);
}

struct Answer {
  std::string head, body;
};

Answer Receive(int connection) {
  std::string text;
  while (text.find("\r\n\r\n") == std::string::npos) ReadMore(connection, text);
  const auto end = text.find("\r\n\r\n");
  Answer answer{text.substr(0, end + 2), text.substr(end + 4)};
  const auto size = std::stoul(Header(answer.head, "Content-Length"));
  while (answer.body.size() < size) ReadMore(connection, answer.body);
  return answer;
}

long Sum(const std::string& event) {
  long sum = 0;
  for (size_t at = 0; at < event.size();) {
    if (std::isdigit(static_cast<unsigned char>(event[at])) || event[at] == '-') {
      size_t length = 0;
      sum += std::stol(event.substr(at), &length);
      at += length;
    } else {
      ++at;
    }
  }
  return sum;
}

}  // namespace

int main() {
  const int connection = Connect(std::getenv("AWS_LAMBDA_RUNTIME_API"));
  while (true) {
    Send(connection, "GET " + kPath + "next HTTP/1.1\r\nHost: agent\r\n\r\n");
    const Answer task = Receive(connection);
    const std::string result = "{\"sum\": " + std::to_string(Sum(task.body)) + ", \"by\": \"c++\"}";
    Send(connection, "POST " + kPath + Header(task.head, "Lambda-Runtime-Aws-Request-Id") +
                         "/response HTTP/1.1\r\nHost: agent\r\nContent-Length: " + std::to_string(result.size()) +
                         "\r\n\r\n" + result);
    Receive(connection);
  }
}
