"""Learning by reward alone: a cart that balances a pole, by REINFORCE with a baseline.

No one says what the right push is.  A policy network draws pushes, a second one (the baseline) learns how many steps
the pole will yet stand, and a push after which it stood longer than that becomes more likely.  Two `pymlp.Learner`s:
the policy's steps are by a gradient at its outputs that is worked out here, the baseline's by its own squared error.

The cart and the pole are those of Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve difficult
learning control problems", 1983; the method is of Williams, "Simple statistical gradient-following algorithms for
connectionist reinforcement learning", 1992.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot

from pymlp import Adam, Learner, Network
from pymlp.examples.picture import path_from, show

GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH, FORCE, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
# a pole that leans further, or a cart that is further away, has failed
MOST_ANGLE, MOST_PLACE = np.radians(12), 2.4
# position, speed, angle, angular speed: what the networks see is of size 1
SCALE = np.array([2.4, 2.0, 0.21, 2.0], np.float32)
CARTS, LONGEST, MOST_ROUNDS = 16, 500, 200
# it has learnt to balance the pole once so many games on end lasted so long on average
SOLVED_GAMES, SOLVED_STEPS = 100, 475
# part of a later reward that counts now
DISCOUNT = 0.99
# the games before and after the training start from here
TILTED = np.array([0.0, 0.0, 0.05, 0.0])


def pushed(states: np.ndarray, right: np.ndarray) -> np.ndarray:
    """States (carts, 4) a fiftieth of a second after a push to the right or to the left."""
    _, speed, angle, turning = states.T
    force = np.where(right, FORCE, -FORCE)
    mass, moment = CART_MASS + POLE_MASS, POLE_MASS * HALF_LENGTH
    sine, cosine = np.sin(angle), np.cos(angle)
    thrust = (force + moment * turning**2 * sine) / mass
    falling = (GRAVITY * sine - cosine * thrust) / (HALF_LENGTH * (4 / 3 - POLE_MASS * cosine**2 / mass))
    moving = thrust - moment * falling * cosine / mass
    return np.column_stack([speed, moving, turning, falling]) * SECONDS + states


def stands(states: np.ndarray) -> np.ndarray:
    """For which carts the pole stands."""
    return (np.abs(states[:, 2]) < MOST_ANGLE) & (np.abs(states[:, 0]) < MOST_PLACE)


def chance_of_right(scores: np.ndarray) -> np.ndarray:
    """Probability of a push to the right, from the two scores of each cart."""
    return 1 / (1 + np.exp(scores[:, 0] - scores[:, 1]))


def game(policy: Learner, states: np.ndarray, random: np.random.RandomState) -> tuple[np.ndarray, ...]:
    """Play until every pole has fallen: what the policy saw, (steps, carts, 4), whether it pushed to the right, and for
    which carts the pole still stood, (steps, carts)."""
    seen, pushes, standing = [], [], [np.ones(len(states), bool)]
    while len(seen) < LONGEST and standing[-1].any():
        # all carts are asked at once; those that have failed stay where they are
        seen.append((states / SCALE).astype(np.float32))
        pushes.append(random.random_sample(len(states)) < chance_of_right(policy.forward(seen[-1])))
        states = np.where(standing[-1][:, None], pushed(states, pushes[-1]), states)
        standing.append(standing[-1] & stands(states))
    return np.array(seen), np.array(pushes), np.array(standing[:-1])


def discounted(standing: np.ndarray) -> np.ndarray:
    """What each step was worth, (steps, carts): a point for each later moment at which the pole stands."""
    worth = np.zeros(standing.shape)
    later = np.zeros(standing.shape[1])
    for step in range(len(standing) - 1, -1, -1):
        later = np.where(standing[step], 1 + DISCOUNT * later, 0)
        worth[step] = later
    return worth * (1 - DISCOUNT)


def learn(policy: Learner, baseline: Learner, random: np.random.RandomState) -> np.ndarray:
    """Play and learn, round by round, until the pole is balanced: how long each one stood, (rounds, carts)."""
    lengths: list[np.ndarray] = []
    latest = -(-SOLVED_GAMES // CARTS)
    while len(lengths) < MOST_ROUNDS and np.mean(lengths[-latest:] or [0]) < SOLVED_STEPS:
        seen, right, standing = game(policy, random.uniform(-0.05, 0.05, (CARTS, 4)), random)
        lengths.append(standing.sum(axis=0))
        rows, right = seen[standing], right[standing]
        worth = discounted(standing)[standing].astype(np.float32)

        advantage = worth - baseline.predict(rows)[:, 0]
        advantage /= advantage.std() + 1e-6
        baseline.train(rows, worth[:, None])
        # what shall become smaller is -log(probability of the push) * advantage; its gradient by each score
        by_score = (chance_of_right(policy.forward(rows)) - right) * advantage / len(rows)
        policy.step(np.column_stack([-by_score, by_score]).astype(np.float32))
    return np.array(lengths)


def angles(policy: Learner, random: np.random.RandomState) -> np.ndarray:
    """The pole's angle in degrees, step by step, in a game of one cart."""
    seen, _, _ = game(policy, TILTED[None], random)
    return np.degrees(seen[:, 0, 2] * SCALE[2])


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn, print how long the poles stood, draw."""
    path = path_from(__doc__, arguments)
    random = np.random.RandomState(0)
    network, judge = Network.from_widths((4, 32, 2), "tanh"), Network.from_widths((4, 32, 1), "tanh")
    most = CARTS * LONGEST
    policy = Learner(network, network.initial_params(random), Adam(), rate=0.02, batch_size=most)
    baseline = Learner(judge, judge.initial_params(random), Adam(), rate=0.02, batch_size=most)
    before = angles(policy, random)
    lengths = learn(policy, baseline, random)
    after = angles(policy, random)

    print("games   mean steps   shortest")
    for last in sorted({*range(10, len(lengths), 10), len(lengths)}):
        part = lengths[(last - 1) // 10 * 10 : last]
        print(f"{CARTS * last:5d}   {part.mean():10.1f}   {part.min():8d}")
    print(f"the pole of a new game stands for {len(before)} steps before the training, {len(after)} after it")

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11.4, 4.4), layout="constrained")
    games = CARTS * np.arange(1, len(lengths) + 1)
    left.fill_between(games, lengths.min(axis=1), lengths.max(axis=1), color="#2166ac", alpha=0.2, linewidth=0)
    left.plot(games, lengths.mean(axis=1), color="#2166ac", linewidth=2)
    left.axhline(LONGEST, color="#777777", linestyle="--", linewidth=1)
    left.set(xlabel="games", ylabel="steps until the pole fell", title="mean of 16 games, shortest and longest")
    for found, colour, label in ((before, "#b2182b", "before"), (after, "#2166ac", "after the training")):
        right.plot(SECONDS * np.arange(len(found)), found, color=colour, linewidth=1.4, label=label)
    right.axhspan(-12, 12, color="#777777", alpha=0.12, linewidth=0)
    right.set(xlabel="seconds", ylabel="angle of the pole in degrees", title="one game")
    right.legend(frameon=False)
    show(figure, path)


if __name__ == "__main__":
    main()
