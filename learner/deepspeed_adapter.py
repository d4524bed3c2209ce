"""The one file that imports DeepSpeed: process group, engine, update step, full parameters out of any ZeRO stage."""

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum
from transformers import AutoModelForCausalLM
from transformers.integrations import HfDeepSpeedConfig

from learner import buckets
from learner.adapters import add_adapters, merged_parameters
from learner.buckets import ParameterSpec
from learner.config import LearnerConfig
from learner.shards import OptimizerState
from learner.snapshots import StateMismatch

NATIVE_TAG = "state"


def join_group(rank: int, ranks: int, master: tuple[str, int], device: str, timeout_s: float) -> None:
    """Join the learner's process group; gloo on CPU, NCCL on CUDA."""
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": "0",  # Ray shows each actor its own device only
        "MASTER_ADDR": master[0],
        "MASTER_PORT": str(master[1]),
    }
    if device == "cpu":
        # Built with a C++ compiler on first use and only needed for inference; a stale build lock would hang the start.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "gloo" if device == "cpu" else "nccl"
    deepspeed.init_distributed(dist_backend=backend, timeout=timedelta(seconds=timeout_s), verbose=False)


class DeepSpeedModel:
    """A causal LM under a DeepSpeed engine whose every `update` is one optimiser step."""

    def __init__(self, config: LearnerConfig, model_path: str, dtype: str, trust_remote_code: bool, seed: int):
        self._config = config
        self.model_path = model_path
        settings = _engine_config(config, dtype)
        # Held for as long as the model loads: under stage 3 transformers then shards the weights while reading them.
        sharded_loading = HfDeepSpeedConfig(settings) if config.zero_stage == 3 else None
        model = AutoModelForCausalLM.from_pretrained(
            model_path,
            dtype=getattr(torch, dtype),
            attn_implementation=config.attention,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,  # the other form is a pickle
        )
        if sharded_loading:
            _restore_rotary_frequencies(model)
        del sharded_loading
        model.train()
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if config.lora_rank is not None and config.lora_alpha is not None:
            add_adapters(model, config.lora_rank, config.lora_alpha, seed)
        trained = [p for p in model.parameters() if p.requires_grad]
        self.engine, *_ = deepspeed.initialize(model=model, optimizer=_optimizer(config, trained), config=settings)
        self.model = model
        self.ranks = torch.distributed.get_world_size()
        self.device = self.engine.device
        self.state = OptimizerState(model, self.engine)

    def forward(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Run the engine on tokens int64 [rows, time], `positions` alike; returns what the replaced head returns.

        No mask and no cache, on every call: only then does transformers read from the positions where a sample starts.
        With either, the samples of a row see each other, and nothing says so.
        """
        return self.engine(input_ids=tokens, position_ids=positions, attention_mask=None, use_cache=False).logits

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate the gradient of `loss`, already divided by its global denominator.

        DeepSpeed averages over ranks, so the sum over ranks needs the factor here.
        """
        self.engine.backward(loss * self.ranks, scale_wrt_gas=False)

    def boundary(self, last: bool) -> None:
        """Say whether the next backward closes the update."""
        self.engine.set_gradient_accumulation_boundary(last)

    def step(self, learning_rate: float) -> float:
        """Clip, apply and clear the gradients; returns the global gradient norm before clipping, the same on all ranks.

        Where it is not finite, nothing is applied: parameters and moments stay as they were.
        """
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = self._plain_norm() if self._config.zero_stage == 0 else None
        if norm is not None and not math.isfinite(norm):  # the other stages look for themselves, and skip such a step
            self.engine.zero_grad()
            return norm
        self.engine.step()
        return float(self.engine.get_global_grad_norm()) if norm is None else norm

    def _plain_norm(self) -> float:
        # Stage 0 in float32 clips but never reports the norm; its gradients are whole and reduced at this point.
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(grads))

    def give_way(self) -> None:
        """Leave what memory of the GPU others can use meanwhile: what torch keeps to reuse, and with
        `offload_while_drawing` master weights and moments too. Weights stay, to be sent and to score with."""
        if self._config.offload_while_drawing:
            self.engine.offload_states([OffloadStateTypeEnum.hp_params, OffloadStateTypeEnum.optim_states])
        torch.cuda.empty_cache()

    def take_back(self) -> None:
        """Bring back what `give_way` moved."""
        self.engine.reload_states()

    def specs(self) -> list[ParameterSpec]:
        """Every parameter at its full size, as in a checkpoint without adapters; a tied one appears once."""
        return [
            ParameterSpec(each.name, shape, str(p.dtype).removeprefix("torch."), math.prod(shape) * p.element_size())
            for each in merged_parameters(self.model)
            for p in each.parts[:1]
            for shape in [tuple(getattr(p, "ds_shape", p.shape))]  # under stage 3, `shape` is that of this rank's part
        ]

    def full_parameters(self, bucket_bytes: int) -> Iterator[list[tuple[ParameterSpec, torch.Tensor]]]:
        """Bucket after bucket of whole parameters, adapters merged in, valid until the next is asked for.

        All ranks must iterate.
        """
        specs, parameters = self.specs(), merged_parameters(self.model)
        for bucket in buckets.plan_buckets(specs, bucket_bytes):
            with self._gathered([part for i in bucket for part in parameters[i].parts]):
                yield [(specs[i], parameters[i].value()) for i in bucket]

    def save_native(self, folder: str) -> list[str]:
        """Write this rank's part in DeepSpeed's own form; names of the files that are there when all ranks have.

        Raises OSError.
        """
        self.engine.save_checkpoint(folder, tag=NATIVE_TAG, save_latest=False)
        torch.distributed.barrier()
        return sorted(path.name for path in Path(folder, NATIVE_TAG).iterdir())

    def load_native(self, folder: str) -> None:
        """Take this rank's part of what `save_native` wrote in the same layout. Runs code that is in the files."""
        if not Path(folder, NATIVE_TAG).is_dir():
            raise StateMismatch(f"a learner rank sees no {NATIVE_TAG} in {folder}: the file system has to be shared")
        loaded, _ = self.engine.load_checkpoint(folder, tag=NATIVE_TAG, load_lr_scheduler_states=False)
        if loaded is None:
            raise StateMismatch(f"DeepSpeed found no checkpoint of this layout in {folder}")

    def _gathered(self, parameters: list[torch.nn.Parameter]) -> AbstractContextManager:
        if self._config.zero_stage == 3:
            return deepspeed.zero.GatheredParameters(parameters, modifier_rank=None)
        return nullcontext()


def _restore_rotary_frequencies(model: torch.nn.Module) -> None:
    # While ZeRO-3 loads, every new floating-point tensor takes the dtype of the weights. Rotary frequencies rounded to
    # bfloat16 turn far positions by wrong angles, and the log-probabilities are no longer the engine's.
    for module in model.modules():
        if hasattr(module, "inv_freq"):
            exact: Any = type(module)(module.config)
            for name, buffer in exact.named_buffers(recurse=False):
                setattr(module, name, buffer.to(getattr(module, name).device))


def _optimizer(config: LearnerConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.learning_rate)
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )


def _engine_config(config: LearnerConfig, dtype: str) -> dict[str, Any]:
    wanted = {"offload_optimizer": config.offload_optimizer, "offload_param": config.offload_parameters}
    offload = {part: {"device": "cpu"} for part, moves in wanted.items() if moves}
    return {
        # DeepSpeed wants a size but never looks at our batches; accumulation is ours, so it is declared as one.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0 if config.max_grad_norm is None else config.max_grad_norm,
        "zero_optimization": {"stage": config.zero_stage, **offload},
        "bf16": {"enabled": dtype == "bfloat16"},
        # In bfloat16 a sum over many passes would lose the small ones.
        "data_types": {"grad_accum_dtype": "fp32"},
        # Plain SGD is not on DeepSpeed's list; tests compare it with one process in every stage.
        "zero_allow_untested_optimizer": config.optimizer == "sgd",
        # With offloading DeepSpeed asks for its CPU Adam, a C++ extension built on first use; torch's AdamW will do.
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }
