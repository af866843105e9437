// The one exception type of the runtime.
#pragma once

#include <stdexcept>
#include <string>

namespace fastcpu {

// Thrown for everything a caller can get wrong. The message says what is wrong and where (which tensor, node, file or
// variable). Each kind becomes one class of fastcpu/errors.py in Python (bindings/register_errors.cpp).
class Error : public std::runtime_error {
 public:
  enum class Kind {
    input,     // a name, dtype, rank, shape or value that the caller passed
    file,      // a model file that is truncated, tampered with or of an unknown version
    graph,     // a graph that is inconsistent or holds an unsupported op
    isa,       // an instruction set that is unknown or that this CPU lacks
    io,        // the operating system refused to read or write
    internal,  // a broken invariant: a bug in fastcpu
  };

  Error(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  Kind kind() const noexcept { return kind_; }

 private:
  Kind kind_;
};

}  // namespace fastcpu
