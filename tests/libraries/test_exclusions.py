"""Exclusion patterns: which files they exclude, compared with Immich's own walk, and which patterns are refused."""

from __future__ import annotations

import json
import random
import secrets
import subprocess
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pytest

from app.libraries.patterns.exclusions import ExclusionRules, check_pattern
from app.libraries.patterns.globs import InvalidPattern
from tests.real.immich import immich_packages
from tests.real.npm import node

ROOT = "/mnt/nas"
FILES = (
    "ok.jpg", "p1.jpg", "p(1).jpg", "raw2/x.jpg", "Raw/r.jpg", "Raw/sub/s.jpg", "private/p.jpg", "private/d/q.jpg", "a/b/x.jpg", "a/b.jpg",
    "film.jpg/in.jpg", "[2020]/a.jpg", "2/b.jpg", "a/a/a.jpg", "ab/ba/aab.jpg", "(/x.jpg", ".hidden.jpg", ".hidden/h.jpg", "a/.x/y.jpg",
)  # fmt: skip
SHOWN = {file for file in FILES if "." not in (file[0], file.partition("/")[2][:1])}


def walk_files(patterns: Iterable[str], root: str = ROOT) -> set[str]:
    """The files of `FILES` that a walk from `root` lists."""
    exclusions = ExclusionRules(patterns)
    return set() if exclusions.excludes_root(root) else {file for file in FILES if _reached(exclusions, root, file)}


def _reached(exclusions: ExclusionRules, root: str, file: str) -> bool:
    *folders, name = file.split("/")
    above = root
    for folder in folders:
        if exclusions.excludes_folder(above, folder):
            return False
        above = f"{above}/{folder}"
    return not exclusions.excludes_file(above, name)


@pytest.mark.parametrize(
    ("pattern", "left_out"),
    [
        ("**/Raw/**", {"Raw/r.jpg", "Raw/sub/s.jpg"}),
        ("**/raw/*", {"Raw/r.jpg"}),
        ("**/Raw/*/**", {"Raw/sub/s.jpg"}),
        ("**/private", {"private/p.jpg", "private/d/q.jpg"}),
        (f"{ROOT}/private", {"private/p.jpg", "private/d/q.jpg"}),
        (f"{ROOT}/private/*", {"private/p.jpg"}),
        ("**/a/b", {"a/b/x.jpg"}),
        ("**/{private,Raw}", {"private/p.jpg", "private/d/q.jpg", "Raw/r.jpg", "Raw/sub/s.jpg"}),
        ("**/{ok,p1,film}.jpg/**", {"ok.jpg", "p1.jpg", "film.jpg/in.jpg"}),
        ("**/{a/{b,x},raw?}/**", {"a/b/x.jpg", "raw2/x.jpg"}),
        ("**/@(private|Raw)/**", {"private/p.jpg", "private/d/q.jpg", "Raw/r.jpg", "Raw/sub/s.jpg"}),
        ("**/@(private|Raw)", set[str]()),
        ("**/@(r*|p?).jpg", {"Raw/r.jpg", "p1.jpg"}),
        ("**/@(a/b|Raw)/*.jpg", {"a/b/x.jpg", "Raw/r.jpg"}),
        ("**/p\\(1\\).jpg", {"p(1).jpg"}),
        ("**/p\\rivate", set[str]()),
        ("/mnt/**/a/**/b/**/x.jpg", {"a/b/x.jpg"}),
        ("/a/Raw", set[str]()),
        ("/a/Raw/a", set[str]()),
        ("/a/Raw/**", set[str]()),
        ("**/a", {"a/b/x.jpg", "a/b.jpg", "a/a/a.jpg"}),
        ("**/?", set[str]()),
        ("**/*", SHOWN),
        ("**/*.mp4", set[str]()),
        ("**/*.j", set[str]()),
        ("**/*a*b.jpg", {"ab/ba/aab.jpg"}),
        ("**/*a*a*b.jpg", {"ab/ba/aab.jpg"}),
        ("**/*a*a*a*b.jpg", set[str]()),
        ("**/a*a*.jpg", {"ab/ba/aab.jpg"}),
        ("**/*/zzz/**", set[str]()),
        ("**/a/a/b.jpg", set[str]()),
        ("**/{*,a}*/mnt/**", SHOWN),
        (f"{ROOT}/ok.jpg/**", {"ok.jpg"}),
        (f"{ROOT}/a/b/**", {"a/b/x.jpg"}),
        ("**/[2020]/**", {"[2020]/a.jpg", "2/b.jpg"}),
        ("**/[!a-z(]/**", {"2/b.jpg"}),
        ("**/a/**/?.jpg", {"a/b/x.jpg", "a/b.jpg", "a/a/a.jpg"}),
        ("**/film.jpg/**", {"film.jpg/in.jpg"}),
        ("**/ok.jpg/**", {"ok.jpg"}),
        ("/**/s*.JPG", {"Raw/sub/s.jpg"}),
        ("**/nas", set[str]()),
        ("/**/mnt/**", set[str]()),
        ("/**/nas/**", SHOWN),
        ("**/*/mnt/**", SHOWN),
        ("/mnt/**", SHOWN),
        ("**/nas/**", SHOWN),
        ("**", SHOWN),
    ],
)
def test_a_pattern_leaves_out(pattern: str, left_out: set[str]) -> None:
    assert SHOWN - walk_files([pattern]) == left_out


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("**/[ab].jpg", ["a.jpg", "B.jpg", "[ab].jpg"], ["c.jpg", "ab.jpg", "[a].jpg", "x.jpg", "^.jpg"]),
        ("**/[a-c].jpg", ["a.jpg", "b.jpg", "C.jpg"], ["d.jpg", "-.jpg", "[a-c].jpg"]),
        ("**/x[-a].jpg", ["x-.jpg", "xa.jpg"], ["xb.jpg", "x[-a].jpg"]),
        ("**/[]].jpg", ["].jpg"], ["[.jpg", "a.jpg", "[]].jpg"]),
        ("**/[]a].jpg", ["].jpg", "a.jpg"], ["[.jpg", "b.jpg"]),
        ("**/[!a].jpg", ["b.jpg", "!.jpg"], ["a.jpg", "[!a].jpg"]),
        ("**/[^a].jpg", ["b.jpg", "^.jpg"], ["a.jpg", "[^a].jpg"]),
        ("**/[!]].jpg", ["b.jpg", "!.jpg"], ["].jpg", "!].jpg"]),
        ("**/[^]a].jpg", ["b.jpg", "^.jpg"], ["].jpg", "a.jpg", "^].jpg"]),
        ("**/[a!].jpg", ["a.jpg", "!.jpg", "[a!].jpg"], ["b.jpg"]),
        ("**/[a&&b].jpg", ["a.jpg", "&.jpg", "b.jpg", "[a&&b].jpg"], ["c.jpg", "x.jpg"]),
        ("**/[a||b].jpg", ["a.jpg", "|.jpg", "b.jpg"], ["c.jpg", "x.jpg"]),
        ("**/[a~~b].jpg", ["a.jpg", "~.jpg", "b.jpg", "[a~~b].jpg"], ["c.jpg", "x.jpg"]),
        ("**/[Xa].jpg", ["x.jpg", "a.jpg"], ["b.jpg"]),
        ("**/[ab][12].jpg", ["a1.jpg", "b2.jpg", "[ab]2.jpg", "[ab][12].jpg"], ["a.jpg", "1.jpg", "ab12.jpg"]),
        ("**/x[!a]", ["xb"], ["x", "xa", "xbc"]),
    ],
)
def test_a_list_of_characters_fits_one_of_them(pattern: str, fitting: list[str], others: list[str]) -> None:
    exclusions = ExclusionRules([pattern])

    assert [name for name in [*fitting, *others] if exclusions.excludes_file("/mnt", name)] == fitting


@pytest.mark.parametrize("pattern", ["**/Ärger/**", "**/ärg?r/**", "**/[äö]rger/**", "/mnt/ÄRGER/**", "**/ärger/*"])
@pytest.mark.parametrize("wanted", ["NFC", "NFD"])
@pytest.mark.parametrize("named", ["NFC", "NFD"])
def test_names_are_the_same_in_either_normalization(
    pattern: str, wanted: Literal["NFC", "NFD"], named: Literal["NFC", "NFD"]
) -> None:
    exclusions = ExclusionRules([unicodedata.normalize(wanted, pattern)])
    folder, file = unicodedata.normalize(named, "ärger"), unicodedata.normalize(named, "é.jpg")

    assert exclusions.excludes_folder("/mnt", folder) or exclusions.excludes_file(f"/mnt/{folder}", file)


@pytest.mark.parametrize(
    ("pattern", "folder", "name", "whole"),
    [
        ("**/Raw/**", ROOT, "raw", True),
        ("**/Raw/*", ROOT, "Raw", False),
        ("**/Raw", ROOT, "Raw", True),
        (f"{ROOT}/Raw/**", ROOT, "Raw", True),
        (f"{ROOT}/Raw/**", ROOT, "Raws", False),
        (f"{ROOT}/Raw/**", f"{ROOT}/Raw", "sub", True),
        (f"{ROOT}/Raw", ROOT, "Raw", True),
        (f"{ROOT}/Raw", f"{ROOT}/sub", "Raw", False),
        ("**/Ra*", ROOT, "Raw", False),
    ],
)
def test_a_folder_of_which_nothing_is_left_is_not_walked(pattern: str, folder: str, name: str, whole: bool) -> None:
    assert ExclusionRules([pattern]).excludes_folder(folder, name) is whole


@pytest.mark.parametrize(
    ("pattern", "whole"),
    [
        ("**/nas/**", True),
        ("**/mnt/**", True),
        (f"{ROOT}/**", True),
        ("/mnt/**", True),
        ("/mnt/*/**", True),
        (f"{ROOT}/Raw/**", False),
        ("**/Raw/**", False),
        ("**/nas", False),
        ("/mnt/na/**", False),
    ],
)
def test_an_import_path_of_which_nothing_is_left(pattern: str, whole: bool) -> None:
    assert ExclusionRules([pattern]).excludes_root(ROOT) is whole


def test_what_is_hidden_is_left_out() -> None:
    assert walk_files([]) == SHOWN
    assert walk_files([], "/mnt/.nas") == SHOWN


def test_several_patterns_leave_out_what_each_of_them_does() -> None:
    patterns = ("**/Raw/**", "**/a/b", "**/p1.jpg", f"{ROOT}/[[]2020]/*", f"{ROOT}/private")
    assert walk_files(patterns) == set.intersection(*(walk_files([pattern]) for pattern in patterns))


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("", "is empty"),
        ("**/" + "a" * 500, "is longer than 500 characters"),
        ("**/!(ok).jpg", "has !(…), which is not known here"),
        ("**/+(a|b).jpg", "has +(…), which is not known here"),
        ("**/*(a|b).jpg", "has *(…), which is not known here"),
        ("**/?(a).jpg", "has ?(…), which is not known here"),
        ("**/p(1).jpg", "has '(', which stands for itself only after a backslash"),
        ("**/a|b", "has '|', which stands for itself only after a backslash"),
        ("**/a}", "has '}', which stands for itself only after a backslash"),
        ("!**/ok.jpg", "begins with '!': patterns tell what is left out, never what is kept"),
        ("*.jpg", "fits no path: begin it with '**/', or with '/' for an absolute path"),
        ("Raw/**", "fits no path: begin it with '**/', or with '/' for an absolute path"),
        ("**/private/", "ends with '/': a folder's name goes without, or with '/**'"),
        ("**/../a", "has a '.' or '..' segment"),
        ("**.jpg", "has '**' beside other characters: write '**/*'"),
        ("**/a**/b", "has '**' beside other characters: write '**/*'"),
        ("**/**a", "has '**' beside other characters: write '**/*'"),
        ("**/{a,b", "has an open brace"),
        ("**/@(a|b", "has an open parenthesis"),
        ("**/{1..3}", "has braces without a comma; '\\{' stands for the character"),
        ("**/[[:alpha:]]*", "has '[' without a plain list of characters; '\\[' stands for the character"),
        ("**/[z-a]", "has [z-a], which is no list of characters"),
        ("**/[ab", "has '[' without a plain list of characters; '\\[' stands for the character"),
        ("**/[]", "has '[' without a plain list of characters; '\\[' stands for the character"),
        ("**/[!]", "has '[' without a plain list of characters; '\\[' stands for the character"),
        ("**/[^]", "has '[' without a plain list of characters; '\\[' stands for the character"),
        ("**/[a\\b]", "has '[' without a plain list of characters; '\\[' stands for the character"),
        ("**/[a/b]", "has '[' without a plain list of characters; '\\[' stands for the character"),
        ("**/[a--c]", "has '[' without a plain list of characters; '\\[' stands for the character"),
        ("**/[ab]+", "has '+' after ']'; '\\+' stands for the character"),
        ("**/[ab]+x", "has '+' after ']'; '\\+' stands for the character"),
        ("**/@(a|b)+", "has '+' or '?' after ')'; a backslash before it makes it stand for itself"),
        ("**/@(a|b)+x", "has '+' or '?' after ')'; a backslash before it makes it stand for itself"),
        ("**/X(a)", "has '(', which stands for itself only after a backslash"),
        ("**/@(a|b)?", "has '+' or '?' after ')'; a backslash before it makes it stand for itself"),
        ("**/***/a", "has more than two '*' in a row"),
        ("**/a\0b", "holds a control character"),
        ("**/a\nb", "holds a control character"),
        ("**/./a", "has a '.' or '..' segment"),
        ("/", "ends with '/': a folder's name goes without, or with '/**'"),
        ("**/a\\", "ends with a backslash"),
        ("**/" + "{a,b}" * 7, "has too many choices"),
        ("**/" + "{a,b}" * 3 + "{a,b,c,d,e}" + "x" * 45, "has too many choices"),
        ("**/" + "{a," * 10 + "}" * 10, "has too many choices within choices"),
        ("**/" + "{{a,b}," * 10 + "c" + "}" * 10, "has too many choices within choices"),
        ("**/" + "{a," * 20 + "}" * 20, "has too many choices within choices"),
    ],
)
def test_a_pattern_that_would_not_do_what_it_says_is_refused(pattern: str, fault: str) -> None:
    with pytest.raises(InvalidPattern) as refused:
        check_pattern(pattern)
    assert str(refused.value) == fault
    assert walk_files([pattern]) == SHOWN
    assert ExclusionRules([pattern]).invalid_patterns == {pattern: fault}


@pytest.mark.parametrize(
    "pattern",
    [
        "**/" + "a" * 497,
        "**/" + "{a,b}" * 6,
        "**/" + "{a,b}" * 3 + "{a,b,c,d,e}" + "x" * 44,
        "**/" + "{a," * 9 + "b" + "}" * 9,
        "**/" + "@(a)" * 12,
        "**/" + "@(@(a))" * 9,
    ],
    ids=["characters", "choices", "tokens", "depth", "in a row", "in each other in a row"],
)
def test_a_pattern_within_all_bounds_is_taken(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "**/*a*a*a*a*a*a*ab",
        "**/" + "*a" * 200 + "b",
        "**/" + "*?" * 200 + "b",
        "**/a*/" * 60 + "b",
        "/**/" + "**/*a*/" * 50 + "**/z/**",
        "**/" + "{a,aa}" * 5 + "*a" * 20 + "b",
    ],
)
def test_no_pattern_takes_longer_with_each_character(pattern: str) -> None:
    """Catastrophic backtracking, with a new search for each position of each star, would take longer than the sun will burn."""
    folder = "/nas" + f"/{'a' * 60}" * 60
    exclusions = ExclusionRules([pattern])
    assert not exclusions.invalid_patterns
    assert not exclusions.excludes_file(folder, "a" * 250)
    assert not exclusions.excludes_folder(folder, "a" * 250)


def test_immich_leaves_out_the_same(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    for file in FILES:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    patterns = _at_the_top(str(tmp_path))
    patterns += [pattern for pattern in _patterns(random.Random(seed), str(tmp_path), 3000) if _allowed(pattern)]
    assert len(patterns) > 2000
    walked = subprocess.run(
        [node(), Path(__file__).with_name("walk_as_immich.mjs"), immich_packages(), tmp_path],
        input=json.dumps(patterns),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    for pattern, found in zip(patterns, json.loads(walked.stdout), strict=True):
        assert walk_files([pattern], str(tmp_path)) == {path.removeprefix(f"{tmp_path}/") for path in found}, pattern


def _at_the_top(root: str) -> list[str]:
    """The first folder of an absolute path, where the beginning of a pattern matters."""
    top = root.split("/")[1]
    starts = ("**/", "/**/", "/**/**/", "**/*/", "/**/*/", "**/*/*/", "**/*/**/", "/*/", "/")
    return [f"{start}{top}{end}" for start in starts for end in ("", "/**", "/**/**", "/*", "/*/**")]


def _patterns(chance: random.Random, root: str, count: int) -> list[str]:
    top, below = root.split("/")[1:3]
    names = ["a", "b", "Raw", "private", "sub", "d", "*", "ok.jpg", "*.jpg", "film.jpg", top, below]
    pieces = [
        "a", "b", "Raw", "private", "jpg", ".jpg", "p", "ok", "r", "sub", "x", "d", "*", "*", "?",
        "[ab]", "[!r]", "[2020]", "{a,Raw}", "{p*,ok}", "@(a|b)", "\\(", "s{,ub}",
    ]  # fmt: skip

    def segment() -> str:
        kind = chance.random()
        if kind < 0.25:
            return "**"
        return chance.choice(names) if kind < 0.55 else "".join(chance.choices(pieces, k=chance.randint(1, 3)))

    starts, ends = ["**/", "**/", "**/", f"{root}/", "/"], ["", "", "/**"]
    return [
        chance.choice(starts) + "/".join(segment() for _ in range(chance.randint(1, 3))) + chance.choice(ends)
        for _ in range(count)
    ]


def _allowed(pattern: str) -> bool:
    try:
        check_pattern(pattern)
    except InvalidPattern:
        return False
    return True
