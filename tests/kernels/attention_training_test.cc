// attention_training: every variant the same bits, near a softmax in double, with gradients near those of the double.
#include "attention_training/attention_training.h"

#include <cmath>
#include <vector>

#include "base/manifest.h"
#include "oracle.h"
#include "training/attention.h"

namespace fastcpu {
namespace {

using test::Guarded;

// Rows [tokens][pitch] of f32, and of the bf16 that are their upper halves.
struct Rows {
  explicit Rows(size_t count) : wide(count), half(count) {}
  void fill(test::Random& random, bool bf16) {
    for (size_t i = 0; i < wide.size(); ++i) {
      float value = random.real(-2, 2);
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof bits);
      half[i] = static_cast<uint16_t>(bits >> 16);
      wide[i] = bf16 ? test::of_bf16(half[i]) : value;
    }
  }
  void* data(bool bf16) { return bf16 ? static_cast<void*>(half.data()) : wide.data(); }
  float at(size_t i, bool bf16) const { return bf16 ? test::of_bf16(half[i]) : wide[i]; }
  bool intact() const { return wide.intact() && half.intact(); }
  bool unwritten(size_t at, bool bf16) const { return bf16 ? half.unwritten(at, 1) : wide.unwritten(at, 1); }
  void refill() {
    wide.refill();
    half.refill();
  }
  Guarded<float> wide;
  Guarded<uint16_t> half;
};

using Matrix = std::vector<std::vector<double>>;

Matrix zeros(int rows, int columns) {
  return Matrix(static_cast<size_t>(rows), std::vector<double>(static_cast<size_t>(columns)));
}

struct Exact {
  Matrix o, dq, dk, dv;
};

Exact exact(const TrainingHead& head, const Rows& q, const Rows& k, const Rows& v, const Rows& g) {
  const int n = head.tokens, d = head.channels;
  const auto at = [&](int t, int c) { return static_cast<size_t>(t * head.pitch + c); };
  Matrix p = zeros(n, n), ds = zeros(n, n);
  Exact result{zeros(n, d), zeros(n, d), zeros(n, d), zeros(n, d)};
  for (int i = 0; i < n; ++i) {
    double highest = -INFINITY, sum = 0, mean = 0;
    for (int j = 0; j < n; ++j) {
      for (int c = 0; c < d; ++c) p[i][j] += static_cast<double>(q.wide[at(i, c)]) * k.wide[at(j, c)] * head.scale;
      highest = std::max(highest, p[i][j]);
    }
    for (int j = 0; j < n; ++j) sum += p[i][j] = std::exp(p[i][j] - highest);
    for (int j = 0; j < n; ++j) {
      p[i][j] /= sum;
      for (int c = 0; c < d; ++c) {
        result.o[i][c] += p[i][j] * v.wide[at(j, c)];
        result.dv[j][c] += p[i][j] * g.wide[at(i, c)];
        ds[i][j] += static_cast<double>(g.wide[at(i, c)]) * v.wide[at(j, c)];
      }
      mean += p[i][j] * ds[i][j];
    }
    for (int j = 0; j < n; ++j) {
      ds[i][j] = p[i][j] * (ds[i][j] - mean);
      for (int c = 0; c < d; ++c) {
        result.dq[i][c] += head.scale * ds[i][j] * k.wide[at(j, c)];
        result.dk[j][c] += head.scale * ds[i][j] * q.wide[at(i, c)];
      }
    }
  }
  return result;
}

// Elements that are further from the exact ones than rounding allows, or written beside the head's channels.
int count_wrong(const TrainingHead& head, const Rows& found, const Matrix& want) {
  int wrong = !found.intact();
  const double tolerance = head.bf16 ? 0x1p-8 : 1e-4;
  for (int t = 0; t < head.tokens; ++t)
    for (int c = 0; c < head.pitch; ++c) {
      const auto at = static_cast<size_t>(t * head.pitch + c);
      if (c >= head.channels)
        wrong += !found.unwritten(at, head.bf16);
      else
        wrong +=
            !(std::fabs(found.at(at, head.bf16) - want[t][c]) <= tolerance * (1e-2 + std::fabs(want[t][c])) + 2e-5);
    }
  return wrong;
}

void check_head(const AttentionTrainingKernel& kernel, int tokens, int channels, bool bf16, uint64_t seed,
                test::Digest& digest, test::Report& report) {
  test::Random random(seed);
  const int64_t pitch = channels + 5;
  const auto count = static_cast<size_t>(tokens * pitch);
  Rows q(count), k(count), v(count), g(count), o(count), dq(count), dk(count), dv(count);
  for (Rows* rows : {&q, &k, &v, &g}) rows->fill(random, bf16);
  TrainingHead head{tokens,       channels,      1 / std::sqrt(static_cast<float>(channels)),
                    bf16,         pitch,         q.data(bf16),
                    k.data(bf16), v.data(bf16),  g.data(bf16),
                    o.data(bf16), dq.data(bf16), dk.data(bf16),
                    dv.data(bf16)};
  Guarded<float> scratch(attention_training_scratch(tokens, channels));
  kernel.forward(head, scratch.data());
  kernel.backward(head, scratch.data());
  const Exact want = exact(head, q, k, v, g);
  const int wrong[] = {count_wrong(head, o, want.o), count_wrong(head, dq, want.dq), count_wrong(head, dk, want.dk),
                       count_wrong(head, dv, want.dv)};
  report.check(wrong[0] + wrong[1] + wrong[2] + wrong[3] == 0 && scratch.intact(),
               "%s: wrong o %d dq %d dk %d dv %d, %d x %d bf16 %d", kernel.name, wrong[0], wrong[1], wrong[2], wrong[3],
               tokens, channels, bf16);
  for (Rows* rows : {&o, &dq, &dk, &dv}) {
    digest.add(rows->wide.data(), rows->wide.bytes());
    digest.add(rows->half.data(), rows->half.bytes());
  }
}

// A batch on any number of threads: each head as if it were alone, rows of padding 0.
void check_batch(uint64_t seed, test::Report& report) {
  constexpr int kBatch = 5, kSequence = 21, kHeads = 3, kChannels = 8;
  const int64_t lengths[kBatch] = {21, 1, 7, 16, 20};
  const auto count = static_cast<size_t>(kBatch * kSequence * kHeads * kChannels);
  test::Random random(seed);
  Rows q(count), k(count), v(count), g(count), o(count), dq(count), dk(count), dv(count);
  for (Rows* rows : {&q, &k, &v, &g}) rows->fill(random, false);
  const AttentionBatch batch{kBatch, kSequence, kHeads,        kChannels,     0.3f,
                             false,  lengths,   q.wide.data(), k.wide.data(), v.wide.data()};
  const auto& kernel = select(attention_training_manifest(), selected_isa());
  const int64_t pitch = kHeads * kChannels;
  Guarded<float> scratch(attention_training_scratch(kSequence, kChannels));
  Rows want_o(count), want_dq(count), want_dk(count), want_dv(count);
  for (int threads : {1, 2, 4}) {
    for (Rows* rows : {&o, &dq, &dk, &dv, &want_o, &want_dq, &want_dk, &want_dv}) rows->refill();
    attention_forward(batch, o.wide.data(), threads);
    attention_backward(batch, g.wide.data(), dq.wide.data(), dk.wide.data(), dv.wide.data(), threads);
    int wrong = 0;
    for (int i = 0; i < kBatch; ++i)
      for (int h = 0; h < kHeads; ++h) {
        const int64_t at = i * kSequence * pitch + h * kChannels;
        const TrainingHead head{static_cast<int>(lengths[i]),
                                kChannels,
                                0.3f,
                                false,
                                pitch,
                                q.wide.data() + at,
                                k.wide.data() + at,
                                v.wide.data() + at,
                                g.wide.data() + at,
                                want_o.wide.data() + at,
                                want_dq.wide.data() + at,
                                want_dk.wide.data() + at,
                                want_dv.wide.data() + at};
        kernel.forward(head, scratch.data());
        kernel.backward(head, scratch.data());
      }
    for (int i = 0; i < kBatch; ++i)
      for (auto* rows : {&want_o, &want_dq, &want_dk, &want_dv})
        std::memset(rows->wide.data() + (i * kSequence + lengths[i]) * pitch, 0,
                    static_cast<size_t>((kSequence - lengths[i]) * pitch) * sizeof(float));
    const Rows* pairs[][2] = {{&o, &want_o}, {&dq, &want_dq}, {&dk, &want_dk}, {&dv, &want_dv}};
    for (const auto& pair : pairs)
      wrong +=
          !pair[0]->intact() + (std::memcmp(pair[0]->wide.data(), pair[1]->wide.data(), pair[0]->wide.bytes()) != 0);
    report.check(wrong == 0, "batch: %d wrong on %d threads", wrong, threads);
  }
}

}  // namespace
}  // namespace fastcpu

int main(int argc, char** argv) {
  using namespace fastcpu;
  const uint64_t seed = test::seed_from(argc, argv);
  test::Random random(seed);
  test::Report report(seed);
  const auto kernels = runnable(attention_training_manifest());
  std::vector<test::Digest> digests(kernels.size());
  for (const int tokens : {1, 2, 5, 16, 17, 33, 70})
    for (const int channels : {1, 4, 7, 16, 32, 64})
      for (const bool bf16 : {false, true}) {
        const uint64_t inputs = random.next();
        for (size_t i = 0; i < kernels.size(); ++i)
          check_head(*kernels[i], tokens, channels, bf16, inputs, digests[i], report);
      }
  check_batch(random.next(), report);
  test::check_digests(kernels, digests, report);
  return report.finish("attention_training_test");
}
