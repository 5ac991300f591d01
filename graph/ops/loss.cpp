#include "graph/ops/infer.hpp"

namespace opsplit::graph::ops {

// NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: scores N x C x ..., labels N x ..., weights C.
Result<Types> infer_loss(const Site& site) {
  OPSPLIT_CHECK(check_floating(site.type(0)));
  const Shape& scores = site.shape(0);
  if (scores.rank() < 2)
    return fail(ErrorCode::invalid_input, "input 0 is {}, must have classes (rank 2 or more)",
                to_string(site.type(0)));
  Dims expected{scores[0]};
  expected.insert(expected.end(), scores.begin() + 2, scores.end());
  OPSPLIT_TRY(const Shape labels, Shape::from(expected));
  if (site.shape(1) != labels || (site.type(1).dtype != int64 && site.type(1).dtype != int32))
    return fail(ErrorCode::invalid_input, "labels (input 1) are {}, must be int64 or int32 {}",
                to_string(site.type(1)), to_string(labels));
  if (site.has(2) && site.type(2) != TensorType{site.type(0).dtype, Shape{scores[1]}})
    return fail(ErrorCode::invalid_input, "weights (input 2) are {}, must be one for each of {}",
                to_string(site.type(2)), scores[1]);
  const std::string reduction = site.node().text("reduction", "mean");
  if (reduction != "none" && reduction != "mean" && reduction != "sum")
    return fail(ErrorCode::invalid_input, "unknown reduction '{}'", reduction);
  const Shape result = reduction == "none" ? labels : Shape{};
  return Types{{site.type(0).dtype, result}, site.type(0)};
}

}  // namespace opsplit::graph::ops
