// linear: y = W x + b on tiles, with u8 (static or dynamic) or f32 input. The kernel is chosen and the weights are
// packed once, at load; constants follow docs/numerics.md, section 4.
#include <cmath>
#include <cstring>

#include "base/buffer.h"
#include "base/error.h"
#include "base/manifest.h"
#include "gemm_f32/gemm_f32.h"
#include "runtime/op.h"
#include "spmm_u8s8/spmm_u8s8.h"

namespace fastcpu {
namespace {

constexpr int64_t kRowUnit =
    48;  // rows per part are a multiple of this, so that register blocks of 4, 6, 8, 12 or 16 rows stay whole

Activation activation_of(const NodeInfo& node, const std::string& name) {
  if (name == "table") return Activation::none;  // the table holds it
  const auto activation = parse_name(kActivationNames, name);
  if (!activation) node.fail("unknown activation \"" + name + "\"");
  return *activation;
}

// Calls visit(row, column, value) for the stored weights of an s8 matrix: all, or those of its blocks.
template <class Visit>
void for_each_weight(const TensorInfo& weight, const Visit& visit) {
  const int64_t rows = weight.rows(), columns = weight.columns();
  const auto* values = reinterpret_cast<const int8_t*>(weight.values->data);
  if (weight.encoding == Encoding::dense) {
    for (int64_t n = 0; n < rows; ++n)
      for (int64_t k = 0; k < columns; ++k) visit(n, k, values[n * columns + k]);
    return;
  }
  const auto* index = reinterpret_cast<const uint16_t*>(weight.index->data);
  const auto* offsets = reinterpret_cast<const uint32_t*>(weight.offsets->data);
  for (int64_t g = 0; g < rows / 4; ++g)
    for (size_t b = offsets[g]; b < offsets[g + 1]; ++b)
      for (size_t r = 0; r < 4; ++r) visit(g * 4 + static_cast<int64_t>(r), index[b], values[b * 4 + r]);
}

class Linear : public Op {
 public:
  Linear(const NodeInfo& node, const OpContext& context) {
    expect_arity(node, 1, 2, 1, 1);
    expect_names(node, {"activation", "table_scale", "table_zero_point"}, {"weight", "bias", "bias_s32", "table"});
    const TensorInfo& weight = node.tensor_at("weight");
    if (weight.shape.size() != 2 || weight.rows() < 1 || weight.columns() < 1) node.fail("weight must be a matrix");
    n_ = weight.rows();
    k_ = weight.columns();
    if (n_ > INT32_MAX / k_) node.fail("weight has more than 2^31 - 1 elements");
    input_ = node.inputs[0];
    output_ = node.outputs[0];
    const ValueInfo& x = context.value(input_);
    const ValueInfo& y = context.value(output_);
    expect_value(node, x, x.dtype, x.space, k_);
    expect_value(node, y, y.dtype, x.space, n_);
    output_u8_ = y.dtype == DType::u8;
    if (!output_u8_ && y.dtype != DType::f32) node.fail("output must be u8 or f32");
    const bool dynamic = x.dtype == DType::u8 && x.dynamic_scale >= 0;
    if (dynamic != (node.inputs.size() == 2) || (dynamic && node.inputs[1] != x.dynamic_scale))
      node.fail("the second input is the scale of a dynamic input, and only that");
    if (dynamic) {
      scale_ = node.inputs[1];
      expect_scale(node, context.value(scale_), x.space);
    }
    const std::string activation = node.attr_string("activation", "none");
    activation_ = activation_of(node, activation);
    if ((activation == "table") != (node.tensor("table") != nullptr))
      node.fail("activation \"table\" and a tensor \"table\" need each other");
    if (activation != "table") refuse_attrs(node, {"table_scale", "table_zero_point"}, "belongs to a table");
    if (x.dtype == DType::u8)
      build_u8(node, context, weight, activation == "table");
    else if (x.dtype == DType::f32)
      build_f32(node, context, weight);
    else
      node.fail("input must be u8 or f32");
  }

  OpInfo info() const override {
    OpInfo info;
    info.kernel = gemm_ != nullptr ? gemm_->name : spmm_ != nullptr ? spmm_->name : f32_->name;
    info.costs = gemm_ != nullptr ? gemm_->costs : spmm_ != nullptr ? spmm_->costs : f32_->costs;
    info.macs_per_token = macs_;
    info.density = density_;
    info.weights = n_ * k_;
    info.packed_bytes = packed_bytes_;
    info.read_bytes = spmm_ == nullptr && gemm_ != nullptr ? static_cast<size_t>(n_ * k_) : packed_bytes_;
    return info;
  }

  size_t scratch_bytes(const Batch&) const override {
    return gemm_ != nullptr ? gemm_->scratch_bytes(static_cast<int>(k_)) : 0;
  }
  bool splits() const override { return true; }

  void run_tile(const TileRun& run) const override {
    const int64_t rows = channel_stride(n_);
    const int64_t per_part = ((rows + run.parts - 1) / run.parts + kRowUnit - 1) / kRowUnit * kRowUnit;
    const int begin = static_cast<int>(std::min(rows, per_part * run.part)),
              end = static_cast<int>(std::min(rows, per_part * (run.part + 1)));
    if (begin >= end) return;
    const int64_t in_bytes = channel_stride(k_) * (f32_ != nullptr ? 4 : 1), out_bytes = rows * (output_u8_ ? 1 : 4);
    uint8_t* out = run.at(output_, out_bytes);
    if (f32_ != nullptr) {
      GemmF32Args args = {reinterpret_cast<const float*>(run.at(input_, in_bytes)),
                          static_cast<int>(k_),
                          run.tile.width,
                          packed_,
                          add_.data(),
                          begin,
                          end,
                          activation_,
                          reinterpret_cast<float*>(out)};
      f32_->run(args);
      return;
    }
    const float* token_scale = scale_ >= 0 ? reinterpret_cast<const float*>(run.at(scale_, 4)) : nullptr;
    const Store store = !output_u8_ ? Store::f32 : table_ != nullptr ? Store::table : Store::u8;
    GemmU8S8Args args = {run.at(input_, in_bytes),
                         static_cast<int>(k_),
                         run.tile.width,
                         static_cast<int>(std::min<int64_t>(run.tile.width, run.tokens - run.tile.begin)),
                         packed_,
                         begin,
                         end,
                         {init_.data(), mul_.data(), add_.data(), token_scale, table_, store},
                         out,
                         run.scratch,
                         run.next_at(input_, in_bytes)};
    if (spmm_ != nullptr) {
      spmm_->run(args);
    } else {
      if (gemm_->prepare != nullptr) gemm_->prepare(args.x, args.k, args.width, args.tokens, run.scratch);
      gemm_->run(args);
    }
    if (activation_ != Activation::none) {
      float* y = reinterpret_cast<float*>(out) + static_cast<int64_t>(begin) * run.tile.width;
      pointwise_->activate(activation_, y, y, static_cast<int64_t>(end - begin) * run.tile.width);
    }
  }

 private:
  uint8_t* take(const OpContext& context, size_t bytes) {
    uint8_t* packed = context.weights.take(bytes);
    packed_ = packed;
    packed_bytes_ = bytes;
    return packed;
  }

  void build_u8(const NodeInfo& node, const OpContext& context, const TensorInfo& weight, bool with_table) {
    const ValueInfo& x = context.value(input_);
    const ValueInfo& y = context.value(output_);
    if (weight.storage != DType::s8) node.fail("a u8 input needs s8 weights");
    const float* bias = expect_vector(node, "bias", n_);
    const TensorInfo* bias_s32 = node.tensor("bias_s32");
    if (bias_s32 != nullptr && (bias_s32->storage != DType::s32 || bias_s32->shape != std::vector<int64_t>{n_}))
      node.fail("bias_s32 must be s32 with one entry per row");
    if (x.dynamic_scale < 0 && x.groups.size() != 1) node.fail("the input has several scales");
    if (output_u8_ && (scale_ >= 0 || y.dynamic_scale >= 0))
      node.fail("a u8 output needs static quantization of input and output");
    if (with_table) {
      const TensorInfo& table = node.tensor_at("table");
      if (!output_u8_ || table.storage != DType::u8 || table.shape != std::vector<int64_t>{256})
        node.fail("a table needs a u8 output and 256 u8 entries");
      table_ = table.values->data;
    }
    if (activation_ != Activation::none && output_u8_) node.fail("an activation on a u8 output must be a table");
    pointwise_ = &select(pointwise_manifest(), context.isa);

    const bool sparse = weight.encoding == Encoding::block4x1 && context.execution != Execution::dense;
    std::vector<int64_t> row_sum(static_cast<size_t>(n_));
    for_each_weight(weight, [&](int64_t n, int64_t, int8_t w) {
      if (w == -128) node.fail("row " + std::to_string(n) + " of the weight has a value of -128");
      row_sum[static_cast<size_t>(n)] += w;
    });
    density_ = weight.encoding == Encoding::block4x1 ? static_cast<double>(weight.nonzero_blocks()) * 4 /
                                                           (static_cast<double>(n_) * static_cast<double>(k_))
                                                     : 1;
    macs_ = static_cast<double>(n_) * static_cast<double>(k_) * density_;
    const TakeMemory memory = [&](size_t bytes) { return take(context, bytes); };
    if (sparse) {
      spmm_ = &select(spmm_u8s8_manifest(), context.isa);
      const Blocks4x1 blocks = {static_cast<int>(n_), static_cast<int>(k_),
                                reinterpret_cast<const int8_t*>(weight.values->data),
                                reinterpret_cast<const uint16_t*>(weight.index->data),
                                reinterpret_cast<const uint32_t*>(weight.offsets->data)};
      spmm_->pack(blocks, memory);
    } else {
      gemm_ = &select(gemm_u8s8_manifest(), context.isa);
      std::vector<int8_t> dense(static_cast<size_t>(n_ * k_));
      for_each_weight(weight, [&](int64_t n, int64_t k, int8_t w) { dense[static_cast<size_t>(n * k_ + k)] = w; });
      gemm_->pack(static_cast<int>(n_), static_cast<int>(k_), dense.data(), memory);
    }

    const auto rows = static_cast<size_t>(channel_stride(n_));
    init_.assign(rows, 0);
    mul_.assign(rows, 1.0f);
    add_.assign(rows, 0.0f);
    const int64_t x_zero_point = scale_ >= 0 ? 128 : x.groups[0].zero_point;
    const float table_scale = node.attr_f32("table_scale", 0);
    const auto table_zero_point = static_cast<double>(node.attr_int("table_zero_point", with_table ? -1 : 0, 0, 255));
    if (with_table && !(table_scale > 0)) node.fail("table_scale must be positive");
    for (int64_t n = 0; n < n_; ++n) {
      const auto i = static_cast<size_t>(n);
      const int64_t start = -x_zero_point * row_sum[i] +
                            (bias_s32 != nullptr ? reinterpret_cast<const int32_t*>(bias_s32->values->data)[n] : 0);
      const int64_t reach = k_ * 255 * 127;
      if (start < INT32_MIN + reach || start > INT32_MAX - reach)
        node.fail("row " + std::to_string(n) + " could overflow 32 bits");
      init_[i] = static_cast<int32_t>(start);
      double mul = weight.scale[n], add = bias[n];
      if (scale_ < 0) mul = static_cast<double>(x.groups[0].scale) * mul;
      if (output_u8_) {
        const double y_scale = with_table ? table_scale : y.group_of(n).scale;
        mul = mul / y_scale;
        add = add / y_scale + (with_table ? table_zero_point : y.group_of(n).zero_point);
      }
      mul_[i] = static_cast<float>(mul);
      add_[i] = static_cast<float>(add);
      if (!std::isfinite(mul_[i]) || !std::isfinite(add_[i]))
        node.fail("scales of row " + std::to_string(n) + " overflow f32");
    }
  }

  void build_f32(const NodeInfo& node, const OpContext& context, const TensorInfo& weight) {
    if (output_u8_) node.fail("an f32 input gives an f32 output");
    if (node.tensor("table") != nullptr || node.tensor("bias_s32") != nullptr)
      node.fail("an f32 input takes neither a table nor bias_s32");
    if (weight.storage != DType::f32 || weight.encoding != Encoding::dense)
      node.fail("an f32 input needs dense f32 weights");
    f32_ = &select(gemm_f32_manifest(), context.isa);
    uint8_t* packed = take(context, f32_->packed_bytes(static_cast<int>(n_), static_cast<int>(k_)));
    f32_->pack(static_cast<int>(n_), static_cast<int>(k_), reinterpret_cast<const float*>(weight.values->data), packed);
    add_.assign(static_cast<size_t>(channel_stride(n_)), 0.0f);
    std::memcpy(add_.data(), expect_vector(node, "bias", n_), static_cast<size_t>(n_) * sizeof(float));
    macs_ = static_cast<double>(n_) * static_cast<double>(k_);
  }

  int64_t n_ = 0, k_ = 0;
  int input_ = -1, output_ = -1, scale_ = -1;
  bool output_u8_ = false;
  Activation activation_ = Activation::none;
  const GemmU8S8Kernel* gemm_ = nullptr;
  const SpmmU8S8Kernel* spmm_ = nullptr;
  const GemmF32Kernel* f32_ = nullptr;
  const PointwiseKernel* pointwise_ = nullptr;
  const uint8_t* packed_ = nullptr;
  size_t packed_bytes_ = 0;
  std::vector<int32_t> init_;
  std::vector<float> mul_, add_;
  const uint8_t* table_ = nullptr;
  double macs_ = 0, density_ = 1;
};

}  // namespace

std::unique_ptr<Op> make_linear(const NodeInfo& node, const OpContext& context) {
  return std::make_unique<Linear>(node, context);
}

}  // namespace fastcpu
