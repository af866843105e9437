// The ISA table, as Python sees it: tiers are strings, the names of isa.def.
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/isa.h"
#include "bindings/bindings.h"

namespace fastcpu::bindings {
namespace {

namespace py = pybind11;

std::vector<std::string> names(const std::vector<Isa>& isas) {
  std::vector<std::string> result;
  for (const Isa isa : isas) result.emplace_back(isa_name(isa));
  return result;
}

Isa from_name(const std::string& name) {
  for (const Isa isa : all_isas()) {
    if (name == isa_name(isa)) return isa;
  }
  throw Error(Error::Kind::isa, "unknown instruction set '" + name + "'");
}

}  // namespace

void register_isa(py::module_& module) {
  module.def("isas", [] { return names(all_isas()); }, "The names of all ISA tiers that fastcpu knows, best first.");
  module.def(
      "isa_title", [](const std::string& name) { return std::string(isa_title(from_name(name))); }, py::arg("name"),
      "The name of a tier for people, e.g. 'AVX-512 VNNI'.");
  module.def(
      "supported_isas", [] { return names(supported_isas()); },
      "The tiers that this CPU and this build support, best first.");
  module.def(
      "selected_isa", [] { return std::string(isa_name(selected_isa())); },
      "The tier in use: the best supported one, or the one that FASTCPU_ISA names.");
  module.def(
      "force_isa_for_testing", [](const std::string& name) { force_isa_for_testing(from_name(name)); }, py::arg("name"),
      "Use this tier for everything loaded from now on.");
}

}  // namespace fastcpu::bindings
