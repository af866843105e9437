// _core.measure_peak: what this CPU can do at best, for `fastcpu doctor`.
#include "base/isa.h"
#include "bindings/bindings.h"
#include "runtime/peak.h"

namespace fastcpu::bindings {

namespace py = pybind11;

void register_peak(py::module_& module) {
  module.def(
      "measure_peak",
      [](int threads) {
        Peak peak;
        {
          const py::gil_scoped_release release;
          peak = measure_peak(selected_isa(), threads);
        }
        py::dict result;
        result["isa"] = isa_name(peak.kernel->isa);
        result["threads"] = peak.threads;
        result["int8_instruction"] = peak.kernel->int8_instruction;
        result["f32_instruction"] = peak.kernel->f32_instruction;
        result["int8_gops"] = peak.int8_ops * 1e-9;
        result["f32_gflops"] = peak.f32_ops * 1e-9;
        result["l2_gbps"] = peak.l2_bytes * 1e-9;
        result["memory_gbps"] = peak.memory_bytes * 1e-9;
        return result;
      },
      py::arg("threads") = 0,
      "Measures, in less than half a second, the most that all threads together reach with the instructions of the "
      "selected tier: 1e9 operations per second (a multiply-accumulate is two) and 1e9 bytes read per second.");
}

}  // namespace fastcpu::bindings
