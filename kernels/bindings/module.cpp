// The extension module fastcpu._core. It is private: the public Python API is written on top of it.
#include "bindings/bindings.h"

PYBIND11_MODULE(_core, module) {
  using namespace fastcpu::bindings;
  register_errors(module);  // first, so that a later group that throws is translated
  register_attention_training(module);
  register_checksum(module);
  register_erf(module);
  register_isa(module);
  register_model(module);
  register_peak(module);
  register_session(module);
  register_sparse_product(module);
  register_word_table(module);
}
