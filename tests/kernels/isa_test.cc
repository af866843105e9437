// Instruction-set tiers: names, order, detection, and the choice through FASTCPU_ISA in processes of their own.
#include "base/isa.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>

#include "base/error.h"
#include "oracle.h"

namespace fastcpu::test {
namespace {

// What selected_isa() gives in a child in which FASTCPU_ISA is `name`: an Isa, or -1 for the Error of this kind.
int selected_with(const char* name) {
  const pid_t child = fork();
  if (child == 0) {
    if (name != nullptr)
      setenv("FASTCPU_ISA", name, 1);
    else
      unsetenv("FASTCPU_ISA");
    try {
      _exit(static_cast<int>(selected_isa()));
    } catch (const Error& error) {
      _exit(error.kind() == Error::Kind::isa && std::string(error.what()).find(name) != std::string::npos ? 100 : 101);
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status)) return -2;
  return WEXITSTATUS(status) == 100 ? -1 : WEXITSTATUS(status);
}

int run_test(uint64_t seed) {
  Report report(seed);
  const std::vector<Isa> all = all_isas(), supported = supported_isas();
  report.check(!supported.empty() && supported.back() == Isa::scalar, "scalar is not the last supported tier");
  report.check(std::is_sorted(supported.rbegin(), supported.rend()), "the supported tiers are not best first");
  std::set<std::string> names;
  for (const Isa isa : all) {
    names.insert(isa_name(isa));
    const bool listed = std::find(supported.begin(), supported.end(), isa) != supported.end();
    report.check(listed == isa_supported(isa), "%s: listed and supported disagree", isa_name(isa));
    report.check(std::string(isa_title(isa)).size() > 2, "%s has no title", isa_name(isa));
    report.check(selected_with(isa_name(isa)) == (listed ? static_cast<int>(isa) : -1), "FASTCPU_ISA=%s",
                 isa_name(isa));
  }
  report.check(names.size() == all.size(), "two tiers have one name");
  report.check(selected_with(nullptr) == static_cast<int>(supported.front()), "the best tier is not the default");
  for (const char* bad : {"sse9", "AVX2", "avx2 ", "avx2,scalar", "../x"})
    report.check(selected_with(bad) == -1, "FASTCPU_ISA=%s is accepted", bad);
  for (const Isa isa : supported) {
    force_isa_for_testing(isa);
    report.check(selected_isa() == isa, "%s cannot be forced", isa_name(isa));
  }
  for (const Isa isa : all) {
    if (isa_supported(isa)) continue;
    bool refused = false;
    try {
      force_isa_for_testing(isa);
    } catch (const Error& error) {
      refused = error.kind() == Error::Kind::isa;
    }
    report.check(refused, "%s is forced on a CPU without it", isa_name(isa));
  }
  return report.finish("isa");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
