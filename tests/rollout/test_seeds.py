from rollout.seeds import keyed_hash, request_seed


def test_hash_is_the_same_in_every_process_and_separates_parts():
    # blake2b of "a\x1f1", first 8 bytes big-endian, without the lowest bit.
    assert keyed_hash("a", 1) == keyed_hash("a", "1")
    assert keyed_hash("a", "1") != keyed_hash("a1")
    assert 0 <= keyed_hash("x") < 2**63


def test_every_part_of_a_request_changes_its_seed():
    base = request_seed(0, 1, "u", 2)
    others = {request_seed(1, 1, "u", 2), request_seed(0, 2, "u", 2), request_seed(0, 1, "v", 2), request_seed(0, 1, "u", 3)}
    assert len(others | {base}) == 5
