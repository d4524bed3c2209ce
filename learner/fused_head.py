"""Log-probability, exact entropy and log-sum-exp straight from hidden states, never with all logits at once.

The logits are made tile by tile, once in the forward and once more in the backward pass. A tile is a chunk of tokens by
a part of the vocabulary, and the online recurrence of the softmax joins the parts, so that the weight's gradient is
written once, part after part, and the elementwise work stays in the cache.

The function replaces the LM head's own `forward`, so that ZeRO-3's hooks, which gather the weight around that module,
still fire.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from learner.head_support import check_head

# Logits in a tile. Smaller ones starve the matrix products, larger ones leave the cache (CPU) or fill the memory (GPU).
TILE_LOGITS = {"cpu": 2**21, "cuda": 2**25}


def linear_logprob_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float, chunk_tokens: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of z = hidden @ weight.T / temperature: each target's log-softmax, the exact entropy in nats, the log-sum-exp.

    hidden        [tokens, width]; weight [vocabulary, width], same dtype; targets int64 [tokens]
    chunk_tokens  most tokens in a tile; how many tokens of the vocabulary go with them follows from TILE_LOGITS
    returns       three float32 [tokens] (float64 where hidden is), all with first derivatives to hidden and weight:
                  d logp_y / dz_v = 1[v = y] - p_v,  d H / dz_v = -p_v (ln p_v + H),  d lse / dz_v = p_v

    Below float32 the products are accumulated in float32 and rounded to the inputs' dtype, as the head's own forward
    does; everything between them is float32. Raises ValueError where shapes, dtypes or targets do not fit.
    """
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1] or targets.shape != hidden.shape[:1]:
        raise ValueError(f"hidden {tuple(hidden.shape)}, weight {tuple(weight.shape)}, targets {tuple(targets.shape)}")
    if hidden.dtype != weight.dtype:
        raise ValueError(f"the hidden states are {hidden.dtype}, but the LM head's weight is {weight.dtype}")
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < len(weight):
        raise ValueError(f"targets from {targets.min()} to {targets.max()} do not fit a vocabulary of {len(weight)}")
    return _LinearLogprobEntropy.apply(hidden, weight, targets, temperature, chunk_tokens)


@torch.no_grad()
def linear_discriminators(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    scores: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    temperature: float,
    chunk_tokens: int,
) -> torch.Tensor:
    """S_y - sum_v p_v S_v with S_v = p_v (ln p_v + H), as `entropy.covariance.discriminators`, without all logits.

    scores   what `linear_logprob_entropy` returned for the same arguments
    returns  float32 [tokens] (float64 where hidden is), without gradients
    """
    logprobs, entropies, log_sums = scores
    tiles = _Tiles(hidden, weight, chunk_tokens)
    # sum_v p_v S_v = sum_v p_v^2 ln p_v + H sum_v p_v^2, both sums over parts of the vocabulary.
    squares, weighted = torch.zeros_like(logprobs), torch.zeros_like(logprobs)
    for rows in tiles.rows:
        for columns in tiles.columns:
            logits, powers = tiles.logits(rows, columns)
            logits.div_(temperature).sub_(log_sums[rows, None])
            torch.mul(logits, 2, out=powers).exp_()
            squares[rows] += powers.sum(-1)
            # A token of probability zero has a log-probability of minus infinity, and adds nothing.
            weighted[rows] += powers.mul_(logits.clamp_(min=torch.finfo(logits.dtype).min / 2)).sum(-1)
    return logprobs.exp() * (logprobs + entropies) - weighted - entropies * squares


class _LinearLogprobEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, chunk_tokens):
        tiles = _Tiles(hidden, weight, chunk_tokens)
        # Of the logits x before temperature, row by row: the running maximum M, s = sum of e^((x - M) / T), and
        # q = sum of (x - M) e^((x - M) / T). M is taken off before the division, so that large logits lose no digits;
        # it starts finite because 0 * inf is nan.
        peak = hidden.new_full((len(hidden),), torch.finfo(tiles.dtype).min, dtype=tiles.dtype)
        total, moment, target = torch.zeros_like(peak), torch.zeros_like(peak), torch.zeros_like(peak)
        for rows in tiles.rows:
            for columns in tiles.columns:
                logits, powers = tiles.logits(rows, columns)
                index, inside = _within(targets[rows], columns)
                target[rows] = torch.where(inside, logits.gather(1, index).squeeze(1), target[rows])
                top = torch.maximum(peak[rows], logits.amax(-1))
                _exponentials(logits, top, temperature, powers)
                fall = peak[rows] - top
                rescale = (fall / temperature).exp()
                moment[rows] = rescale * (moment[rows] + fall * total[rows])
                total[rows] = rescale * total[rows] + powers.sum(-1)
                moment[rows] += powers.mul_(logits).sum(-1)
                peak[rows] = top
        log_total = total.log()
        logprobs = (target - peak) / temperature - log_total
        # Neither term of H = ln s - q / (s T) lowers it, so no digits cancel.
        entropies = log_total - moment / (total * temperature)
        ctx.save_for_backward(hidden, weight, targets, peak, log_total, logprobs, entropies)
        ctx.temperature, ctx.chunk_tokens = temperature, chunk_tokens
        ctx.set_materialize_grads(False)
        return logprobs, entropies, peak / temperature + log_total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_logprobs, grad_entropies, grad_lse):
        hidden, weight, targets, peak, log_total, logprobs, entropies = ctx.saved_tensors
        if grad_entropies is not None and not grad_entropies.any():
            grad_entropies = None  # zeros come from a loss without entropy that took its log-probs out of a stack
        # The gradient at a logit is e^((x - M) / T) (offset + slope (x - M)), apart from that at the target.
        offset, at_target = torch.zeros_like(peak), torch.zeros_like(peak)
        if grad_logprobs is not None:
            offset -= grad_logprobs
            at_target -= grad_logprobs * logprobs.expm1()
        if grad_lse is not None:
            offset += grad_lse
            at_target += grad_lse * logprobs.exp()
        scale = (-log_total).exp() / ctx.temperature
        slope = None
        if grad_entropies is not None:
            offset -= grad_entropies * (entropies - log_total)
            at_target -= grad_entropies * logprobs.exp() * (logprobs + entropies)
            slope = (-grad_entropies * scale / ctx.temperature)[:, None]
        offset = (offset * scale)[:, None]
        at_target /= ctx.temperature

        tiles = _Tiles(hidden, weight, ctx.chunk_tokens)
        grad_hidden = torch.zeros_like(hidden, dtype=tiles.dtype) if ctx.needs_input_grad[0] else None
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        if grad_weight is not None and not len(hidden):
            grad_weight.zero_()
        for columns in tiles.columns:
            part = tiles.weight_part(columns) if grad_weight is not None and len(tiles.rows) > 1 else None
            for rows in tiles.rows:
                logits, powers = tiles.logits(rows, columns)
                _exponentials(logits, peak[rows], ctx.temperature, powers)
                if slope is None:
                    grad = powers.mul_(offset[rows])
                else:
                    torch.addcmul(offset[rows], logits, slope[rows], out=logits)
                    grad = powers.mul_(logits)
                index, inside = _within(targets[rows], columns)
                there = torch.where(inside, at_target[rows], grad.gather(1, index).squeeze(1))
                grad = tiles.rounded(grad.scatter_(1, index, there[:, None]))
                if grad_hidden is not None:
                    _add_product(grad_hidden[rows], grad, weight[columns])
                if part is not None:
                    _add_product(part, grad.T, hidden[rows])
                elif grad_weight is not None:
                    torch.mm(grad.T, hidden[rows], out=grad_weight[columns])
            if grad_weight is not None and part is not None:
                grad_weight[columns] = part
        return None if grad_hidden is None else grad_hidden.to(hidden.dtype), grad_weight, None, None, None


class _Tiles:
    """How tokens and vocabulary are cut, and the buffers that all tiles share.

    rows, columns  slices of the tokens and of the vocabulary
    dtype          that of everything between the matrix products
    """

    def __init__(self, hidden: torch.Tensor, weight: torch.Tensor, chunk_tokens: int):
        tokens, vocabulary = len(hidden), len(weight)
        height = max(1, min(tokens, chunk_tokens))
        width = max(1, min(vocabulary, TILE_LOGITS[hidden.device.type] // height))
        self.rows, self.columns = _slices(tokens, height), _slices(vocabulary, width)
        self.dtype = torch.promote_types(hidden.dtype, torch.float32)
        self._hidden, self._weight = hidden, weight
        self._logits, self._powers = hidden.new_empty((2, height * width), dtype=self.dtype)
        self._products = self._logits if hidden.dtype == self.dtype else hidden.new_empty(height * width)
        self._part: torch.Tensor | None = None

    def logits(self, rows: slice, columns: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits of a tile, before temperature, and a buffer of the same shape; valid until the next tile."""
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        logits, powers, products = (_shaped(each, shape) for each in (self._logits, self._powers, self._products))
        torch.mm(self._hidden[rows], self._weight[columns].T, out=products)
        if self._products is not self._logits:
            logits.copy_(products)
        return logits, powers

    def rounded(self, tile: torch.Tensor) -> torch.Tensor:
        """A tile in the dtype of the matrix products."""
        if self._products is self._logits:
            return tile
        return _shaped(self._products, tuple(tile.shape)).copy_(tile)

    def weight_part(self, columns: slice) -> torch.Tensor:
        """Zeros where the weight's gradient to a part of the vocabulary adds up over chunks of tokens."""
        if self._part is None:
            self._part = torch.empty_like(self._weight[self.columns[0]], dtype=self.dtype)
        return self._part[: columns.stop - columns.start].zero_()


def _slices(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def _shaped(buffer: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return buffer[: shape[0] * shape[1]].view(shape)


def _exponentials(logits: torch.Tensor, peak: torch.Tensor, temperature: float, out: torch.Tensor) -> None:
    """Take each row's peak off the logits, in place, and write e^(logits / temperature) to `out`."""
    logits.sub_(peak[:, None])
    if temperature == 1:
        torch.exp(logits, out=out)
    else:
        torch.mul(logits, 1 / temperature, out=out).exp_()


def _within(targets: torch.Tensor, columns: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Column of each target in a tile, int64 [rows, 1], and whether it is there, bool [rows]; any column where not."""
    inside = (targets >= columns.start) & (targets < columns.stop)
    return targets.clamp(columns.start, columns.stop - 1)[:, None] - columns.start, inside


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


@dataclass
class TargetTokens:
    """What the next forward of the head shall score.

    positions    int64 [selected] into the flattened [batch * time] hidden states
    targets      int64 [selected], the token that each position predicts
    temperature  of the distribution that is scored
    exact        whether the first-order scores are wanted too
    """

    positions: torch.Tensor
    targets: torch.Tensor
    temperature: float
    exact: bool = False


@dataclass
class Distributions:
    """That the next forward of the head shall give all logits at `positions`, int64 [selected] as in `TargetTokens`."""

    positions: torch.Tensor
    temperature: float


class ScoringHead:
    """Takes the place of an `nn.Linear` LM head's forward; returns [2, selected] log-probs and entropies.

    Where the request asks for them, a third row has the discriminators. Asked for distributions, it returns the
    tempered logits, float32 [selected, vocabulary] (float64 where the hidden states are). Raises TypeError where the
    head is more than a product with its weight.
    """

    def __init__(self, head: nn.Linear, chunk_tokens: int):
        check_head(head)
        self.request: TargetTokens | Distributions | None = None
        self._chunk_tokens = chunk_tokens
        self._head = head
        head.forward = self._forward  # type: ignore[method-assign, assignment]

    def _forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.request is None:
            raise RuntimeError("the head was called without target tokens")
        request, self.request = self.request, None
        selected = hidden.reshape(-1, hidden.shape[-1])[request.positions]
        weight, temperature, chunk = self._head.weight, request.temperature, self._chunk_tokens
        if isinstance(request, Distributions):
            logits = selected @ weight.T
            return logits.to(torch.promote_types(logits.dtype, torch.float32)).div_(temperature)
        scores = linear_logprob_entropy(selected, weight, request.targets, temperature, chunk)
        if request.exact:
            return torch.stack((*scores[:2], linear_discriminators(selected, weight, scores, temperature, chunk)))
        return torch.stack(scores[:2])
