"""The guarantees that the tested S3 servers other than SeaweedFS do not keep, with reasons.

These tests must fail, so that a server that has been fixed is noticed. In `make test` the core of the suite runs against each, in `make soak`
all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CORE = frozenset(
    {
        "test_every_range_between_edges_gives_just_its_bytes",
        "test_a_start_past_the_end_is_refused_with_the_size",
        "test_an_empty_object_is_read_whole_and_has_no_ranges",
        "test_a_missing_object_is_told_before_any_byte",
        "test_errors_carry_key_and_backend",
        "test_what_is_known_of_an_object_is_the_same_everywhere",
        "test_if_match_takes_the_version_that_was_seen_and_no_other",
        "test_a_read_never_mixes_two_versions",
        "test_an_exception_leaves_nothing",
        "test_a_key_is_written_once",
        "test_a_key_that_is_taken_during_the_write_is_refused",
        "test_no_object_lies_below_another",
        "test_a_copy_has_the_bytes_and_leaves_the_source",
        "test_a_copy_or_move_onto_another_object_is_refused",
        "test_40_mib_of_unknown_length_in_uneven_pieces",
        "test_the_probe_passes_and_leaves_nothing",
        "test_composed_and_decomposed_letters_are_two_names",
        "test_an_escaped_name_is_not_the_name_it_stands_for",
        "test_prefixes_match_by_whole_segments",
        "test_a_listing_continues_after_every_key_also_when_that_is_gone",
        "test_a_deleted_object_is_gone_and_its_key_free",
        "test_deleting_what_is_not_there_is_fine",
        "test_a_delete_takes_nothing_with_a_longer_name",
        "test_a_killed_writer_leaves_nothing_that_is_seen",
        "test_a_sweep_of_what_is_a_day_old_leaves_the_living_alone",
        "test_a_place_is_recognised_by_its_witness",
        "test_a_store_that_gives_a_checksum_gives_that_of_the_whole",
        "test_who_is_wrong_about_a_free_key_is_refused",
    }
)
"""The guarantees that depend on a store's responses."""


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """`cannot`: names of guarantees, with the reason why the store breaks them."""

    cannot: Mapping[str, str]


MOTO = StoreRecord(
    cannot={
        "test_a_killed_writer_leaves_nothing_that_is_seen": "it dates every unfinished upload to 2010, so that a sweep takes young ones",
        "test_a_sweep_leaves_what_is_in_use": "it dates every unfinished upload to 2010, so that a sweep takes young ones",
    }
)

_NO_GAPS = "it completes no upload whose part numbers have gaps"
RCLONE = StoreRecord(
    cannot={
        "test_a_newcomer_goes_on_after_a_kill_at_each_effect": _NO_GAPS,
        "test_a_newcomer_is_killed_at_each_effect_while_the_older_writer_is_stopped": _NO_GAPS,
        "test_a_writer_that_was_stopped_at_each_effect_does_no_harm_when_it_wakes_up": _NO_GAPS,
        "test_bytes_without_a_checkpoint_are_forgotten": _NO_GAPS,
        "test_the_newest_of_two_appends_goes_on": _NO_GAPS,
        "test_deleting_what_is_not_there_is_fine": "it answers 500 to a delete of what is a folder on its disk",
        "test_composed_and_decomposed_letters_are_two_names": "it takes NFC and NFD for the same name",
    }
)
