"""The net of the tutorial, trained once for all pages whose examples use it."""

from sklearn.datasets import load_digits

from krylovh import Network, Objective, minimize

X, y = load_digits(return_X_y=True)
X = X / 16
net = Network((64, 16, 10), "tanh")
net = net.with_theta(net.random_theta(rng=0))
objective = Objective(net, X, y, loss="softmax_cross_entropy", l2=1e-3)
objective = objective.at(minimize(objective, tol=1e-6).x)
net = objective.net
