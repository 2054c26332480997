"""Optimizers of optax: schedules, decay of matrices only, and moments in f32 whatever the weights are."""

import jax
import jax.numpy as jnp
import optax

from gptoss_train.config import OptimizerConfig
from gptoss_train.parameters import Parameters, is_decayed

__all__ = ["init_moments", "make_optimizer", "make_schedule", "treats_numbers_alone"]


def make_schedule(config: OptimizerConfig, *, steps: int) -> optax.Schedule:
    """The learning rate of each step, from 0."""
    highest, lowest = config.learning_rate, config.learning_rate * config.final_ratio
    rest = max(steps - config.warmup_steps, 1)
    main: optax.Schedule
    match config.schedule:
        case "constant":
            main = optax.constant_schedule(highest)
        case "linear":
            main = optax.linear_schedule(highest, lowest, rest)
        case "cosine":
            main = optax.cosine_decay_schedule(highest, rest, alpha=config.final_ratio)
        case "wsd":
            main = optax.linear_schedule(
                highest, lowest, config.decay_steps, transition_begin=rest - config.decay_steps
            )
    if not config.warmup_steps:
        return main
    # The first step already learns: it has the rate of one step of the rise.
    rise = optax.linear_schedule(highest / config.warmup_steps, highest, max(config.warmup_steps - 1, 1))
    return optax.join_schedules([rise, main], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig, *, steps: int) -> optax.GradientTransformation:
    """The optimizer, a transformation of gradients in f32; the step has clipped them."""
    rate = make_schedule(config, steps=steps)

    def mask(parameters: Parameters) -> dict[str, bool]:
        return {name: is_decayed(name) for name in parameters}

    decay = config.weight_decay
    optimizer: optax.GradientTransformation
    match config.name:
        case "adamw":
            optimizer = optax.adamw(rate, config.b1, config.b2, config.eps, weight_decay=decay, mask=mask)
        case "lion":
            optimizer = optax.lion(rate, config.b1, config.b2, weight_decay=decay, mask=mask)
        case "adafactor":
            # Without its own clipping and scaling by parameters, so that clip_norm and learning_rate say what happens.
            optimizer = optax.chain(
                optax.scale_by_factored_rms(),
                optax.add_decayed_weights(decay, mask),
                optax.scale_by_learning_rate(rate),
            )
        case "sgd":
            optimizer = optax.chain(
                optax.trace(config.momentum) if config.momentum else optax.identity(),
                optax.add_decayed_weights(decay, mask),
                optax.scale_by_learning_rate(rate),
            )
    return optimizer


def treats_numbers_alone(config: OptimizerConfig) -> bool:
    """Whether what becomes of a parameter's number follows from that number, its gradient and its moments alone."""
    return config.name != "adafactor"  # which has moments of rows and columns


def init_moments(optimizer: optax.GradientTransformation, parameters: Parameters) -> optax.OptState:
    """The state of an optimizer at the beginning."""
    return optimizer.init(jax.tree.map(lambda value: value.astype(jnp.float32), parameters))
