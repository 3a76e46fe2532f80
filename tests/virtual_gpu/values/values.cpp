// Right values: what an operator computes, computed by torch's own CPU kernel on the same memory.
//
// Kernels of the virtual GPU compute nothing. Here each operator of the CUDA backend runs as it
// is, so that its launches, copies, waits and allocations are torch's own, and then its CPU kernel
// runs on the host's view of the same tensors. It hooks in below autograd at the BackendSelect key,
// which every thread's dispatch passes; no Python is involved. In a capture the CPU kernel becomes
// a part of the graph and runs at each replay.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

// Of the virtual GPU: where this thread captures, `run` becomes a part of the graph.
extern "C" int virtual_gpu_capture_effect(void (*run)(void *), void (*drop)(void *), void *data);

namespace {

using c10::DispatchKey;
using c10::DispatchKeySet;
using c10::IValue;
using torch::jit::Stack;

std::mutex lock;
std::map<std::string, std::string> missed;  // operators without right values, and why
thread_local bool inside = false;           // of an operator that is computed as a whole

// --- the host's view of a tensor ------------------------------------------------------------------

at::Tensor host(const at::Tensor &tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  c10::DataPtr memory(const_cast<void *>(tensor.storage().data()), c10::Device(c10::kCPU));
  c10::Storage storage(c10::Storage::use_byte_size_t(), tensor.storage().nbytes(),
                       std::move(memory), nullptr, false);
  auto view = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), DispatchKeySet(DispatchKey::CPU), tensor.dtype());
  auto *impl = view.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  return view;
}

at::Generator generator() {
  static at::Generator made = at::detail::createCPUGenerator(0);
  return made;
}

IValue host(const IValue &value) {
  if (value.isTensor()) return host(value.toTensor());
  if (value.isDevice()) return IValue(c10::Device(c10::kCPU));
  if (value.isGenerator()) return IValue(generator());
  if (value.isTensorList()) {
    c10::List<at::Tensor> views;
    for (const at::Tensor &tensor : value.toTensorVector()) views.push_back(host(tensor));
    return views;
  }
  if (value.isList() && value.toList().elementType()->isSubtypeOf(
                            *c10::OptionalType::create(c10::TensorType::get()))) {
    c10::List<std::optional<at::Tensor>> views;
    for (const IValue &item : value.toListRef())
      views.push_back(item.isNone() ? std::optional<at::Tensor>() : host(item.toTensor()));
    return views;
  }
  return value;
}

void each_tensor(const IValue &value, const std::function<void(const at::Tensor &)> &visit) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) visit(value.toTensor());
  } else if (value.isList()) {
    for (const IValue &item : value.toListRef()) each_tensor(item, visit);
  }
}

// --- how an operator is computed on the host -----------------------------------------------------

void call(const char *name, const char *overload, Stack &stack) {
  auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
  op.callBoxed(stack);
}

// Operators that only CUDA has, as the ones that say the same.
bool substitute(const std::string &name, const Stack &in, Stack &out) {
  auto attention = [&](const IValue &mask, const IValue &causal, const IValue &scale) {
    out = {in[0], in[1], in[2], mask, 0.0, causal, IValue(), scale};
    const auto &op = c10::Dispatcher::singleton().findSchemaOrThrow(
        "aten::_scaled_dot_product_attention_math", "");
    if (op.schema().arguments().size() > 8) out.emplace_back(false);  // enable_gqa
    op.callBoxed(out);
    out.resize(1);
  };
  if (name == "aten::_scaled_dot_product_flash_attention")
    attention(IValue(), in[4], in[6]);
  else if (name == "aten::_scaled_dot_product_efficient_attention")
    attention(in[3], in[6], in[7]);
  else if (name == "aten::_scaled_dot_product_cudnn_attention" && in.size() == 9)
    attention(in[3], in[6], in[8]);
  else if (name == "aten::cudnn_convolution") {
    auto none = c10::List<int64_t>(std::vector<int64_t>(in[2].toIntVector().size(), 0));
    out = {in[0], in[1], IValue(), in[3], in[2], in[4], false, none, in[5]};
    call("aten::convolution", "", out);
  } else if (name == "aten::cudnn_batch_norm") {
    out = in;
    call("aten::native_batch_norm", "", out);
    out.resize(in[5].toBool() ? 3 : 1);
  } else {
    return false;
  }
  return true;
}

// Of half precision a processor multiplies matrices slowly; in single it is as right.
const std::set<std::string> PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm",
                                        "aten::_addmm_activation"};

void widen(Stack &in) {
  static auto op = c10::Dispatcher::singleton().findSchemaOrThrow("aten::to", "dtype");
  for (IValue &value : in) {
    if (!value.isTensor()) continue;
    auto type = value.toTensor().scalar_type();
    if (type != at::kHalf && type != at::kBFloat16) continue;
    Stack stack{value, at::kFloat, false, false, IValue()};
    op.callBoxed(stack);
    value = stack[0];
  }
}

void on_host(const c10::OperatorHandle &op, Stack in, Stack &out) {
  at::AutoDispatchBelowADInplaceOrView below;
  if (PRODUCTS.count(op.schema().name()) && op.schema().overload_name().empty()) widen(in);
  if (substitute(op.schema().name(), in, out)) return;
  out = std::move(in);
  op.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), &out);
}

void copy(const at::Tensor &target, const at::Tensor &value) {
  static auto op = c10::Dispatcher::singleton().findSchemaOrThrow("aten::copy_", "");
  Stack stack{target, value, false};
  at::AutoDispatchBelowADInplaceOrView below;
  op.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), &stack);
}

void miss(const c10::OperatorHandle &op, const std::string &why) {
  std::lock_guard<std::mutex> held(lock);
  missed[op.schema().name()] = why.substr(0, why.find('\n'));
}

// Compute, and put what came out into the host's views of the operator's own results. Results
// that are numbers are left in `numbers`, where there is one.
void compute(const c10::OperatorHandle &op, const Stack &in, const Stack &targets,
             IValue *numbers = nullptr) {
  try {
    Stack out;
    on_host(op, in, out);
    for (size_t i = 0; i < out.size() && i < targets.size(); ++i) {
      if (numbers && out[i].isScalar()) numbers[i] = out[i];
      std::vector<at::Tensor> values, places;
      each_tensor(out[i], [&](const at::Tensor &tensor) { values.push_back(tensor); });
      each_tensor(targets[i], [&](const at::Tensor &tensor) { places.push_back(tensor); });
      for (size_t j = 0; j < values.size() && j < places.size(); ++j) {
        if (values[j].data_ptr() == places[j].data_ptr()) continue;
        if (values[j].sizes() == places[j].sizes())
          copy(places[j], values[j]);
        else
          miss(op, "another shape");
      }
    }
  } catch (const std::exception &error) {
    miss(op, error.what());
  }
}

// --- the kernel at BackendSelect ------------------------------------------------------------------

// The shape of their results depends on values, so that their own CUDA kernels would read nonsense.
const std::set<std::string> SHAPED_BY_VALUES = {
    "aten::nonzero",           "aten::masked_select",      "aten::_unique2",
    "aten::unique_consecutive", "aten::unique_dim",        "aten::repeat_interleave",
    "aten::bincount",
};

bool any_cuda(const Stack &stack, size_t first) {
  bool found = false;
  for (size_t i = first; i < stack.size() && !found; ++i)
    each_tensor(stack[i], [&](const at::Tensor &tensor) { found |= tensor.is_cuda(); });
  return found;
}

at::Tensor to_device(const at::Tensor &value, c10::Device device) {
  if (!value.defined()) return value;
  auto made = at::empty(value.sizes(), value.options().device(device));
  copy(host(made), value);
  return made;
}

// As the CUDA kernel does: a kernel counts, the host waits for the count, a kernel writes.
void shaped_by_values(const c10::OperatorHandle &op, Stack *stack, size_t first) {
  std::optional<c10::Device> device;
  Stack in, out;
  for (size_t i = first; i < stack->size(); ++i) {
    each_tensor((*stack)[i], [&](const at::Tensor &tensor) {
      if (tensor.is_cuda()) device = tensor.device();
    });
    in.push_back(host((*stack)[i]));
  }
  auto count = at::empty({1}, at::TensorOptions().device(*device).dtype(at::kLong));
  count.zero_();
  count.item();
  on_host(op, std::move(in), out);
  stack->resize(first);
  for (const IValue &value : out)
    stack->push_back(value.isTensor() ? IValue(to_device(value.toTensor(), *device)) : value);
}

struct Part {  // of a graph
  c10::OperatorHandle op;
  Stack in, targets;
};

void select(const c10::OperatorHandle &op, DispatchKeySet keys, Stack *stack) {
  auto below = keys & DispatchKeySet(DispatchKeySet::FULL_AFTER, DispatchKey::BackendSelect);
  size_t first = stack->size() - op.schema().arguments().size();
  bool shaped = SHAPED_BY_VALUES.count(op.schema().name());
  // Not for sparse or nested tensors, nor for those that only stand for others.
  bool dense = below.has_backend(c10::BackendComponent::CUDABit) &&
               !below.has_backend(c10::BackendComponent::MetaBit) &&
               below.has(DispatchKey::Dense) && !below.has(DispatchKey::Python) &&
               !below.has(DispatchKey::Sparse) && any_cuda(*stack, first);
  if (!dense || (inside && !shaped)) {
    op.redispatchBoxed(below, stack);
    return;
  }
  if (shaped) {
    shaped_by_values(op, stack, first);
    return;
  }
  Stack given(stack->begin() + long(first), stack->end()), in;
  inside = true;
  try {
    op.redispatchBoxed(below, stack);
  } catch (...) {
    inside = false;
    throw;
  }
  inside = false;
  // After the operator: it may have resized what it was given as its output.
  for (const IValue &value : given) in.push_back(host(value));
  Stack targets;
  for (size_t i = first; i < stack->size(); ++i) targets.push_back(host((*stack)[i]));
  auto part = std::make_unique<Part>(Part{op, std::move(in), std::move(targets)});
  auto run = [](void *data) {
    auto *it = static_cast<Part *>(data);
    compute(it->op, it->in, it->targets);
  };
  auto drop = [](void *data) { delete static_cast<Part *>(data); };
  if (virtual_gpu_capture_effect(run, drop, part.get()))
    part.release();
  else
    compute(op, part->in, part->targets, stack->data() + first);
}

// --- which operators -----------------------------------------------------------------------------

// They compute nothing, or what they do is real already.
const std::set<std::string> PLAIN = {
    "aten::_local_scalar_dense", "aten::set_", "aten::record_stream", "aten::is_pinned",
    "aten::_pin_memory",         "aten::resize_", "aten::_resize_output_",
};
// Their kernels are for all backends, or have another form on the host.
const std::set<std::string> SUBSTITUTED = {
    "aten::copy_",
    "aten::cudnn_batch_norm",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::cudnn_convolution",
};

bool computed(const c10::OperatorHandle &op) {
  const auto &schema = op.schema();
  if (schema.name().rfind("aten::", 0) != 0 || PLAIN.count(schema.name()) ||
      schema.name().rfind("aten::empty", 0) == 0 ||
      op.hasKernelForDispatchKey(DispatchKey::BackendSelect))
    return false;
  for (const auto &result : schema.returns())  // a view is what it shows
    if (result.alias_info() && !result.alias_info()->isWrite()) return false;
  return SUBSTITUTED.count(schema.name()) || (op.hasKernelForDispatchKey(DispatchKey::CUDA) &&
                                              op.hasComputedKernelForDispatchKey(DispatchKey::CPU));
}

std::vector<c10::RegistrationHandleRAII> registered;

}  // namespace

API int virtual_gpu_values_on() {
  auto &dispatcher = c10::Dispatcher::singleton();
  for (const auto &name : dispatcher.getAllOpNames()) {
    auto op = dispatcher.findSchema(name);
    if (!op || !computed(*op)) continue;
    registered.push_back(dispatcher.registerImpl(
        name, DispatchKey::BackendSelect, c10::KernelFunction::makeFromBoxedFunction<&select>(),
        std::nullopt, nullptr, "right values of the virtual GPU"));
  }
  return int(registered.size());
}
API void virtual_gpu_values_off() { registered.clear(); }

// "name: why" of each operator that could not be computed, a line each.
API size_t virtual_gpu_values_missed(char *out, size_t size) {
  std::lock_guard<std::mutex> held(lock);
  std::string text;
  for (auto &[name, why] : missed) text += name + ": " + why + "\n";
  snprintf(out, size, "%s", text.c_str());
  return text.size();
}
