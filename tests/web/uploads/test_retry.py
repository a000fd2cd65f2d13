"""What the page does after a failed request of an upload."""

from __future__ import annotations

import pytest

from tests.real.page_modules import run_modules

DECIDE = """
  const { RequestRefused, ConnectionLost } = await load("uploads/transfer/exchange.js");
  const { decide, chooseDelay } = await load("uploads/transfer/retry.js");
  return value.map(([status, retryAfter, attempts]) => {
    const error = status === 0 ? new ConnectionLost("lost") : new RequestRefused(status, "refused", retryAfter);
    return [decide(error, attempts), chooseDelay(error, attempts, 0.5)];
  });
"""


@pytest.fixture(scope="module")
def decisions() -> dict[tuple[int, int | None, int], tuple[str, float]]:
    questions = [
        (status, retry_after, attempts)
        for status in (0, 400, 401, 403, 404, 408, 409, 410, 413, 415, 423, 429, 460, 500, 502, 503, 504, 507)
        for retry_after in (None, 7, 86_400)
        for attempts in (1, 2, 6, 1000)
    ]
    answers = run_modules(DECIDE, questions)
    return {question: (answer[0], answer[1]) for question, answer in zip(questions, answers, strict=True)}


def test_what_passes_is_tried_again_for_ever(decisions: dict[tuple[int, int | None, int], tuple[str, float]]) -> None:
    for status in (0, 408, 409, 423, 429, 502, 503, 504, 507):
        assert {decisions[status, None, attempts][0] for attempts in (1, 2, 6, 1000)} == {"retry"}, status


def test_what_the_server_refuses_is_not_tried_again(
    decisions: dict[tuple[int, int | None, int], tuple[str, float]],
) -> None:
    assert {decisions[status, None, 1][0] for status in (400, 403, 413, 415)} == {"give-up"}
    assert {decisions[status, None, 1][0] for status in (404, 410)} == {"restart"}
    assert decisions[401, None, 1][0] == "sign-in"
    assert [decisions[500, None, attempts][0] for attempts in (1, 2, 6)] == ["retry", "retry", "give-up"]


def test_pauses_grow_to_a_bound_and_obey_the_server(
    decisions: dict[tuple[int, int | None, int], tuple[str, float]],
) -> None:
    assert [decisions[0, None, attempts][1] for attempts in (1, 2, 6, 1000)] == [1000, 2000, 30_000, 30_000]
    assert decisions[409, None, 1][1] == 0
    assert decisions[503, 7, 1][1] == decisions[429, 7, 6][1] == 7000
    assert decisions[503, 86_400, 1][1] == 300_000
