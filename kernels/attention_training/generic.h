// The bodies of attention_training, compiled once per ISA file in that tier's namespace over its vector type.
//
// Scores lie with a row per key and a lane per query, so that a softmax takes no operation across lanes. All six
// products are one form: out[r] = sum over c of a(r, c) b[c], with numbers a and rows b of lanes.
#pragma once
#include "attention_training/attention_training.h"
#include "attention_training/layout.h"
#include "simd/math.h"
#include "simd/panel.h"

namespace fastcpu::FASTCPU_ISA_NAME {

// Numbers of a matrix: element (r, c) lies at data[r * row + c * column].
struct Numbers {
  const float* data;
  int64_t row, column;
};

// Four rows of kVectors vectors.
template <class V, int kVectors>
void product_rows(Numbers a, const float* b, int64_t b_stride, int terms, float* out, int64_t out_stride) {
  V acc[4][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) acc[r][i] = V::zero();
  for (int c = 0; c < terms; ++c, b += b_stride) {
    V lane[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) lane[i] = V::load(b + i * V::lanes);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const V number = V::set1(a.data[r * a.row + c * a.column]);
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) acc[r][i] = fma(number, lane[i], acc[r][i]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) acc[r][i].store(out + r * out_stride + i * V::lanes);
}

// `rows` is a multiple of 4; b has `terms` rows.
template <class V, int kMost>
void product(Numbers a, int64_t rows, const float* b, int64_t stride, int terms, float* out) {
  for_each_strip_up_to<V, kMost>(static_cast<int>(stride), [&](auto strip, int lane) {
    for (int64_t r = 0; r < rows; r += 4)
      product_rows<V, decltype(strip)::vectors>({a.data + r * a.row, a.row, a.column}, b + lane, stride, terms,
                                                out + r * stride + lane, stride);
  });
}

template <class V, class As>
class Head {
 public:
  using Element = typename As::Element;

  Head(const TrainingHead& head, float* scratch)
      : head_(head), at_(head.tokens, head.channels), scratch_(scratch), width_(static_cast<int>(at_.width)) {}

  template <int kMost>
  void forward() {
    probabilities<kMost>();
    table(head_.v, at_.v);
    product<V, kMost>({scratch_ + at_.v, 1, at_.row}, at_.channels4, scratch_ + at_.p, at_.width, head_.tokens,
                      scratch_ + at_.out_panel);
    store_panel(head_.o);
  }

  template <int kMost>
  void backward() {
    probabilities<kMost>();
    table(head_.v, at_.v);
    table(head_.q, at_.q);
    table(head_.gradient, at_.gradient);
    panel(head_.gradient, at_.gradient_panel);
    product<V, kMost>({scratch_ + at_.v, at_.row, 1}, at_.tokens4, scratch_ + at_.gradient_panel, at_.width,
                      head_.channels, scratch_ + at_.ds);
    score_gradients();
    product<V, kMost>({scratch_ + at_.k, 1, at_.row}, at_.channels4, scratch_ + at_.ds, at_.width, head_.tokens,
                      scratch_ + at_.out_panel);
    scale(scratch_ + at_.out_panel, at_.channels4 * at_.width);
    store_panel(head_.dq);
    product<V, kMost>({scratch_ + at_.p, at_.width, 1}, at_.tokens4, scratch_ + at_.gradient, at_.row, head_.tokens,
                      scratch_ + at_.dv);
    store_table(at_.dv, head_.dv);
    product<V, kMost>({scratch_ + at_.ds, at_.width, 1}, at_.tokens4, scratch_ + at_.q, at_.row, head_.tokens,
                      scratch_ + at_.dk);
    scale(scratch_ + at_.dk, at_.tokens4 * at_.row);
    store_table(at_.dk, head_.dk);
  }

 private:
  // p of q and k, and the table of k.
  template <int kMost>
  void probabilities() {
    table(head_.k, at_.k);
    panel(head_.q, at_.q_panel);
    float* const p = scratch_ + at_.p;
    product<V, kMost>({scratch_ + at_.k, at_.row, 1}, at_.tokens4, scratch_ + at_.q_panel, at_.width, head_.channels,
                      p);
    const V factor = V::set1(head_.scale * 0x1.715476p+0f);
    for (int lane = 0; lane < width_; lane += V::lanes) {
      V highest = V::load(p + lane) * factor;
      for (int j = 0; j < head_.tokens; ++j) {
        const V t = V::load(p + j * at_.width + lane) * factor;
        t.store(p + j * at_.width + lane);
        highest = max(t, highest);
      }
      V sum = V::zero();
      for (int j = 0; j < head_.tokens; ++j) {
        const V e = exp2(V::load(p + j * at_.width + lane) - highest);
        e.store(p + j * at_.width + lane);
        sum = sum + e;
      }
      for (int j = 0; j < head_.tokens; ++j) (V::load(p + j * at_.width + lane) / sum).store(p + j * at_.width + lane);
    }
  }

  // dp becomes ds, without the scale.
  void score_gradients() {
    const float* const p = scratch_ + at_.p;
    float* const ds = scratch_ + at_.ds;
    for (int lane = 0; lane < width_; lane += V::lanes) {
      V sum = V::zero();
      for (int j = 0; j < head_.tokens; ++j)
        sum = fma(V::load(p + j * at_.width + lane), V::load(ds + j * at_.width + lane), sum);
      for (int j = 0; j < head_.tokens; ++j)
        (V::load(p + j * at_.width + lane) * (V::load(ds + j * at_.width + lane) - sum))
            .store(ds + j * at_.width + lane);
    }
  }

  void scale(float* x, int64_t count) const {
    const V factor = V::set1(head_.scale);
    for (int64_t i = 0; i < count; i += V::lanes) (V::load(x + i) * factor).store(x + i);
  }

  // Rows as they are, in f32.
  void table(const void* rows, int64_t to) {
    const Element* from = static_cast<const Element*>(rows);
    for (int64_t t = 0; t < at_.tokens4; ++t)
      for (int64_t c = 0; c < at_.row; c += V::lanes) {
        const int64_t left = t < head_.tokens ? head_.channels - c : 0;
        load_elements<V, As>(from + t * head_.pitch + c, left).store(scratch_ + to + t * at_.row + c);
      }
  }

  void store_table(int64_t from, void* rows) {
    Element* to = static_cast<Element*>(rows);
    for (int64_t t = 0; t < head_.tokens; ++t)
      for (int64_t c = 0; c < head_.channels; c += V::lanes)
        store_elements<V, As>(V::load(scratch_ + from + t * at_.row + c), to + t * head_.pitch + c, head_.channels - c);
  }

  void panel(const void* rows, int64_t to) {
    panel_load<V, As>(static_cast<const Element*>(rows), head_.pitch, head_.tokens, head_.channels, width_,
                      {scratch_ + to, at_.width});
  }

  void store_panel(void* rows) {
    panel_store<V, As>({scratch_ + at_.out_panel, at_.width}, head_.tokens, head_.channels, head_.pitch,
                       static_cast<Element*>(rows));
  }

  const TrainingHead& head_;
  const HeadLayout at_;
  float* const scratch_;
  const int width_;
};

template <class V, int kMost>
void attention_forward(const TrainingHead& head, float* scratch) {
  if (head.bf16)
    Head<V, AsBf16<V>>(head, scratch).template forward<kMost>();
  else
    Head<V, AsF32<V>>(head, scratch).template forward<kMost>();
}

template <class V, int kMost>
void attention_backward(const TrainingHead& head, float* scratch) {
  if (head.bf16)
    Head<V, AsBf16<V>>(head, scratch).template backward<kMost>();
  else
    Head<V, AsF32<V>>(head, scratch).template backward<kMost>();
}

}  // namespace fastcpu::FASTCPU_ISA_NAME
