// Sessions under load: many callers of one session, several sessions, profiles read meanwhile, forks, and bad batches.
#include "runtime/session.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/error.h"
#include "tiny_model.h"

// The child of a fork uses threads on purpose.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() { return "die_after_fork=0"; }

namespace fastcpu::test {
namespace {

SessionOptions with_threads(int threads) {
  SessionOptions options;
  options.threads = threads;
  options.profile = true;
  return options;
}

void check_callers(const char* golden, Report& report) {
  Session one(golden, with_threads(1)), two(golden, with_threads(2)), three(golden, with_threads(3));
  Session* const sessions[] = {&one, &two, &three};
  std::vector<TinyBatch> batches;
  std::vector<TinyAnswers> expected;
  for (const auto& [rows, columns] : {std::pair(1, 3), std::pair(2, 24), std::pair(7, 11), std::pair(40, 20)}) {
    batches.emplace_back(rows, columns, static_cast<uint64_t>(rows));
    expected.push_back(run(one, batches.back()));
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (size_t caller = 0; caller < 6; ++caller)
    callers.emplace_back([&, caller] {
      for (size_t repeat = 0; repeat < 12; ++repeat) {
        Session& session = *sessions[(caller + repeat) % 3];
        const size_t batch = (caller * 5 + repeat) % batches.size();
        if (!same(run(session, batches[batch]), expected[batch])) ++wrong;
        if (repeat % 4 == 0 && session.profile().size() != session.op_infos().size()) ++wrong;
      }
    });
  for (std::thread& caller : callers) caller.join();
  report.check(wrong == 0, "%s: %d wrong answers to concurrent callers", golden, wrong.load());
}

// AddressSanitizer's allocator, unlike that of the C library, stays locked in a child that is forked while another
// thread allocates, frees, starts or ends: there, no other thread calls the session. ThreadSanitizer's is the same, so
// the callers allocate as little as they can and have all started before the first fork.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kBusyWhileForking = false;
#else
constexpr bool kBusyWhileForking = true;
#endif

// Children are forked while other threads run the same session.
void check_fork(const char* golden, Report& report) {
  Session session(golden, with_threads(2));
  const TinyBatch batch(9, 20, 4);
  const TinyAnswers expected = run(session, batch);
  const auto run_into = [&](Context& context, TinyAnswers& answers) {
    float* outputs[8] = {};
    for (size_t i = 0; i < answers.size(); ++i) outputs[i] = answers[i].data();
    session.set_padded(context, {batch.ids.data(), 8, batch.rows, batch.columns},
                       {batch.mask.data(), 8, batch.rows, batch.columns}, {});
    session.run(context, outputs);
  };
  TinyAnswers answers[2] = {expected, expected};
  {
    const Session::Lease first(session), second(session);
    run_into(*first, answers[0]);
    run_into(*second, answers[1]);
  }
  std::atomic<bool> done{false};
  std::atomic<size_t> started{0};
  std::vector<std::thread> busy;
  if (kBusyWhileForking)
    for (TinyAnswers& own : answers)
      busy.emplace_back([&] {
        ++started;
        while (!done) run_into(*Session::Lease(session), own);
      });
  while (started < busy.size()) std::this_thread::yield();
  for (int repeat = 0; repeat < 8; ++repeat) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);  // a child that hangs is killed
      const bool good = same(run(session, batch), expected) && !session.profile().empty();
      _exit(good && same(run(session, batch), expected) ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    report.check(status == 0, "%s: a forked child ended with status %d", golden, status);
  }
  done = true;
  for (std::thread& thread : busy) thread.join();
  report.check(same(run(session, batch), expected), "%s: the parent after forking", golden);
}

// Each output alone is what it is among all.
void check_single_outputs(const char* golden, Report& report) {
  for (int threads = 1; threads <= 3; ++threads) {
    Session session(golden, with_threads(threads));
    for (const int64_t rows : {int64_t{1}, int64_t{9}, int64_t{40}}) {
      const TinyBatch batch(rows, 20, 5);
      const TinyAnswers expected = run(session, batch);
      for (size_t wanted = 0; wanted < expected.size(); ++wanted) {
        std::vector<float> answer(expected[wanted].size());
        std::vector<float*> outputs(expected.size(), nullptr);
        outputs[wanted] = answer.data();
        const Session::Lease context(session);
        session.set_padded(*context, {batch.ids.data(), 8, batch.rows, batch.columns},
                           {batch.mask.data(), 8, batch.rows, batch.columns}, {});
        session.run(*context, outputs.data());
        report.check(same({answer}, {expected[wanted]}), "%s: output %zu alone of %d rows, %d threads", golden, wanted,
                     static_cast<int>(rows), threads);
      }
    }
  }
}

template <class Call>
void expect_input_error(Report& report, const char* message, const Call& call) {
  std::string got = "nothing";
  try {
    call();
  } catch (const Error& error) {
    got = error.kind() == Error::Kind::input ? error.what() : std::string("another kind: ") + error.what();
  } catch (const std::exception& error) {
    got = std::string("another exception: ") + error.what();
  }
  report.check(got.find(message) != std::string::npos, "'%s' instead of '%s'", got.c_str(), message);
}

void check_batches(const char* golden, Report& report) {
  Session session(golden, with_threads(2));
  const TinyBatch batch(3, 20, 7);
  const TinyAnswers expected = run(session, batch);
  const int64_t ids[4] = {1, 2, 50, -1}, huge[2] = {int64_t{1} << 32, 3}, types[2] = {0, 2};
  const uint8_t bytes[2] = {1, 49};
  std::vector<float> out(64 * 64);
  std::vector<float*> pointers(session.model().outputs().size(), out.data());
  const auto padded = [&](const IntArray& array, const IntArray& type = {}) {
    const Session::Lease context(session);
    session.set_padded(*context, array, {}, type);
    session.run(*context, pointers.data());
  };
  const auto ragged = [&](const std::vector<IntSpan>& spans, const std::vector<IntSpan>& type = {}) {
    const Session::Lease context(session);
    session.set_ragged(*context, spans, type);
    session.run(*context, pointers.data());
  };
  padded({bytes, 1, 1, 2});
  ragged({{bytes, 1, 2}, {ids, 8, 1}});
  expect_input_error(report, "batch is empty", [&] { padded({ids, 8, 0, 4}); });
  expect_input_error(report, "batch is empty", [&] { padded({ids, 8, 4, 0}); });
  expect_input_error(report, "batch is empty", [&] { ragged({}); });
  expect_input_error(report, "too large", [&] { padded({ids, 8, 1 << 20, 1 << 20}); });
  expect_input_error(report, "too large", [&] { padded({ids, 8, INT64_MAX, INT64_MAX}); });
  expect_input_error(report, "too large", [&] { ragged({{ids, 8, int64_t{1} << 40}}); });
  expect_input_error(report, "sequence 1 is empty", [&] { ragged({{ids, 8, 1}, {ids, 8, 0}}); });
  expect_input_error(report, "token id 50 at row 0, column 2", [&] { padded({ids, 8, 1, 3}); });
  expect_input_error(report, "token id -1 at row 3, column 0",
                     [&] { ragged({{ids, 8, 1}, {ids, 8, 1}, {ids, 8, 2}, {ids + 3, 8, 1}}); });
  expect_input_error(report, "token id 4294967296 at row 0, column 0", [&] { padded({huge, 8, 1, 2}); });
  expect_input_error(report, "token type 2 at row 0, column 1", [&] { padded({ids, 8, 1, 2}, {types, 8, 1, 2}); });
  expect_input_error(report, "token types for 1 sequences",
                     [&] { ragged({{ids, 8, 1}, {ids, 8, 1}}, {{types, 8, 1}}); });
  expect_input_error(report, "but 2 token types", [&] { ragged({{ids, 8, 1}}, {{types, 8, 2}}); });
  const std::vector<int64_t> zeros(200);
  expect_input_error(report, "too long: the model has 24 positions", [&] { padded({zeros.data(), 8, 1, 25}); });
  report.check(same(run(session, batch), expected), "%s: the session is spoilt by bad batches", golden);
}

int run_test(uint64_t seed) {
  Report report(seed);
  for (const char* golden : kGolden) {
    check_batches(golden, report);
    check_single_outputs(golden, report);
    check_callers(golden, report);
    check_fork(golden, report);
  }
  return report.finish("session");
}

}  // namespace
}  // namespace fastcpu::test

int main(int argc, char** argv) { return fastcpu::test::run_test(fastcpu::test::seed_from(argc, argv)); }
