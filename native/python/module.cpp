// What pnpkit.native loads. The interpreter lock is released while anything is computed.
#include <torch/csrc/utils/pybind.h>

#include "pnpkit/solvers.h"
#include "pnpkit/training.h"

namespace py = pybind11;
using namespace pnpkit;

namespace {

using Free = py::call_guard<py::gil_scoped_release>;

struct Network {
  std::string path;
  std::optional<bool> bf16;
  Prior prior;

  Network(const std::string& place, std::optional<bool> half, bool own)
      : path(place), bf16(half), prior(read_prior(place, arithmetic(half), at::kCPU, own)) {}

  static std::optional<Arithmetic> arithmetic(std::optional<bool> half) {
    if (!half) return std::nullopt;
    return *half ? Arithmetic::bfloat16 : Arithmetic::float32;
  }

  template <class Kind>
  const Kind& as() const {
    if (!std::holds_alternative<Kind>(prior)) throw CapabilityError(path + " is of another kind.");
    return std::get<Kind>(prior);
  }
};

// A problem from the saved form of its operator: JSON, and the tensors that it names by their sha256.
std::shared_ptr<Problem> make_problem(const std::string& spec, const std::map<std::string, Tensor>& tensors,
                                      const Tensor& y, const Tensor& sigma, double cg_tol, int64_t cg_max_iter) {
  const Tensors find = [&](const Json& reference, const std::string& where) {
    const auto found = reference.is_object() && reference.contains("sha256")
                           ? tensors.find(reference["sha256"].get<std::string>())
                           : tensors.end();
    if (found == tensors.end()) throw InputError(where + ": its tensor was not given.");
    return found->second;
  };
  std::shared_ptr<Operator> op = make_operator(parse_json(spec, "the operator"), find);
  op->cg_tol = cg_tol, op->cg_max_iter = cg_max_iter;
  return std::make_shared<Problem>(op, y, sigma);
}

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const Error& error) {
    const char* name = error.code == 4 ? "DivergedError" : error.code == 3 ? "CapabilityError" : "SpecError";
    PyErr_SetString(py::module_::import("pnpkit.errors").attr(name).ptr(), error.what());
  }
}

}  // namespace

PYBIND11_MODULE(_pnpkit_native, m) {
  py::register_exception_translator(translate);
  m.def("has_twin", &has_twin);
  m.def("has_convolutions", &has_convolutions);
  m.def("read_npy", [](const std::string& path) { return read_npy(path); });
  py::class_<Network>(m, "Network")
      .def(py::init<const std::string&, std::optional<bool>, bool>(), py::arg("path"), py::arg("bf16") = py::none(),
           py::arg("fused") = true, Free())
      .def(
          "denoise", [](const Network& n, const Tensor& x, const Tensor& sigma) { return n.as<Denoiser>()(x, sigma); },
          Free())
      .def(
          "posterior_denoise",
          [](const Network& n, const Tensor& x, const Tensor& sigma, const std::shared_ptr<Problem>& p) {
            return n.as<Unfolding>()(x, sigma, *p);
          },
          Free())
      .def(
          "body",
          [](const Network& n, size_t k, const Tensor& image, const Tensor& embedding) {
            return n.as<Unfolding>().network(k)(image, embedding);
          },
          Free())
      .def_property_readonly(
          "engine", [](const Network& n) { return std::visit([](const auto& p) { return p.engine(); }, n.prior); })
      .def_readonly("path", &Network::path)
      .def_readonly("bf16", &Network::bf16);
  py::class_<Problem, std::shared_ptr<Problem>>(m, "Problem")
      .def(py::init(&make_problem), py::arg("operator"), py::arg("tensors"), py::arg("y"), py::arg("sigma"),
           py::arg("cg_tol") = 1e-5, py::arg("cg_max_iter") = 100)
      .def(
          "forward", [](const Problem& p, const Tensor& x) { return p.op->forward(x); }, Free())
      .def(
          "adjoint", [](const Problem& p, const Tensor& y) { return p.op->adjoint(y); }, Free())
      .def(
          "normal", [](const Problem& p, const Tensor& x) { return p.op->normal(x); }, Free())
      .def(
          "prox_l2", [](const Problem& p, const Tensor& z, const Tensor& tau) { return p.op->prox(z, p.y, tau); },
          Free())
      .def("initial", &Problem::initial, Free())
      .def_readonly("lipschitz", &Problem::lipschitz)
      .def_readonly("noise_level", &Problem::noise_level);
  m.def(
      "solve",
      [](const Problem& p, const Network& n, const std::string& solver, uint64_t seed) {
        return solve(p, n.prior, make_solver(parse_json(solver, "the solver")), seed);
      },
      Free());
}
