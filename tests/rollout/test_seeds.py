from rollout.seeds import keyed_hash, request_seed


def test_hash_is_the_same_in_every_process_and_separates_parts():
    # `printf 'a\037 1' | b2sum -l 64` without the space, big-endian, halved.
    assert keyed_hash("a", 1) == keyed_hash("a", "1") == 4665976284724862560
    assert keyed_hash("a", "1") != keyed_hash("a1")
    assert 0 <= keyed_hash("x") < 2**63


def test_every_part_of_a_request_changes_its_seed():
    base = request_seed(0, 1, "u", 2)
    others = [(1, 1, "u", 2), (0, 2, "u", 2), (0, 1, "v", 2), (0, 1, "u", 3)]
    assert len({base, *(request_seed(*parts) for parts in others)}) == 5
