// The program of ../README.md, as it stands there.
#include <ATen/ATen.h>

#include <iostream>

#include "pnpkit/solvers.h"

using namespace pnpkit;

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const at::Tensor y = read_npy(argv[2]);  // (1, H, W): a blurred photograph with noise
  const at::Tensor kernel = at::ones({1, 9, 9}) / 81;

  const Json spec = {{"name", "blur"}, {"kernel", {{"file", "kernel"}}}, {"shape", y.sizes().vec()}};
  std::shared_ptr<Operator> blur = make_operator(spec, [&](const Json&, const std::string&) { return kernel; });
  const Problem problem(blur, y.unsqueeze(0), at::tensor(0.02f));

  const Unfolding prior(read_weights(argv[1]), Arithmetic::bfloat16);
  PosteriorSampler sampler;
  sampler.n_steps = 1;  // the posterior mean; more steps draw a sample
  try {
    const at::Tensor x = sampler(problem, prior, generator(at::kCPU, 0));
    write_npy(argv[3], x[0]);
    std::cout << "range " << x.min().item<float>() << " to " << x.max().item<float>() << "\n";
  } catch (const Error& error) {
    std::cerr << error.what() << "\n";
    return error.code;
  }
}
