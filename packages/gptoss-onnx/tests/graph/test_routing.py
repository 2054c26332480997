import numpy as np
from gptoss_onnx.graph.routing import route_tokens


def route(run_graph, logits: np.ndarray, k: int) -> list[np.ndarray]:
    def build(op, logits):
        routing = route_tokens(op, logits, experts_per_token=k)
        return routing.indices, routing.weights

    return run_graph(build, logits=logits.astype(np.float32))


def test_the_best_expert_comes_first(run_graph):
    indices, _ = route(run_graph, np.array([[0.0, 3.0, -1.0, 2.0]]), k=2)
    assert indices.tolist() == [[1, 3]]


def test_weights_are_a_softmax_over_the_chosen_only(run_graph):
    _, weights = route(run_graph, np.array([[0.0, 3.0, -1.0, 2.0]]), k=2)
    np.testing.assert_allclose(weights, [[1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]], rtol=1e-6)


def test_all_experts_may_be_chosen(run_graph):
    indices, weights = route(run_graph, np.array([[0.0, 3.0, -1.0]]), k=3)
    assert sorted(indices[0].tolist()) == [0, 1, 2]
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
