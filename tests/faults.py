"""Faults for the real graph. Ray runs one of these functions at the start of every worker process."""


def skip_tied_head_repack() -> None:
    """The engine keeps the packed LM head of the old weights after a sync."""
    from rollout import tied_head

    tied_head.repack = lambda model: None


def lose_last_bucket() -> None:
    """The learner sends every bucket but the last."""
    from learner import buckets

    whole = buckets.plan_buckets
    buckets.plan_buckets = lambda parameters, bucket_bytes: whole(parameters, bucket_bytes)[:-1]
